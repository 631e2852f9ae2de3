"""The weights that gptexp brings, `base`, and which configs start from them unless they say otherwise."""

import json
from dataclasses import asdict
from pathlib import Path

from gptexp.config.schema import Bpe, Config

FOLDER = Path(__file__).resolve().parents[1] / "weights" / "base"
FREE = {"context", "dropout", "initialisation"}  # may differ between weights and what starts from them


def starts_from_base(config: Config) -> bool:
    """Whether the task begins with base and nothing in the config is at odds with its shape or its tokenizer."""
    if not config.task.starts_from_base or config.resume or config.model.arch == "encoder_decoder":
        return False
    if asdict(config.tokenizer) != asdict(Bpe()):
        return False
    shape = json.loads((FOLDER / "config.json").read_text("utf8"))["gptexp_model"]
    return all(getattr(config.model, name) == value for name, value in shape.items() if name not in FREE | {"arch"})
