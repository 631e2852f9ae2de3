"""The weights that gptexp brings, `base`, and which configs start from them unless they say otherwise.

What base was trained on must not be tested on: with data=pydocs, what is held out must be what was held out then.
"""

import json
from dataclasses import asdict
from pathlib import Path

from gptexp.config.schema import BpeConfig, Config, PydocsConfig

FOLDER = Path(__file__).resolve().parents[1] / "weights" / "base"
FREE = {
    "context",
    "dropout",
    "initialisation",
}  # may differ between weights and what starts from them


def base_saw_test_data(config: Config) -> str | None:
    """The setting by which texts that base was trained on are held out, to test on; None: there is none."""
    if not isinstance(config.data, PydocsConfig):
        return None
    mine, its = config.data, PydocsConfig()
    if not set(mine.unseen) <= set(its.unseen):
        return f"data.unseen=[{','.join(mine.unseen)}]"
    if mine.split != its.split:
        return f"data.split={mine.split}"
    if (
        mine.val_fraction + mine.test_fraction > its.val_fraction + its.test_fraction
    ):  # shares of one order of texts
        return f"data.val_fraction={mine.val_fraction}, data.test_fraction={mine.test_fraction}"
    return None


def starts_from_base(config: Config) -> bool:
    """Whether the task begins with base and nothing in the config is at odds with its shape or its tokenizer."""
    if not config.task.starts_from_base or config.resume or config.model.arch == "encoder_decoder":
        return False
    if asdict(config.tokenizer) != asdict(BpeConfig()):
        return False
    shape = json.loads((FOLDER / "config.json").read_text("utf8"))["gptexp_model"]
    return all(
        getattr(config.model, name) == value
        for name, value in shape.items()
        if name not in FREE | {"arch"}
    )
