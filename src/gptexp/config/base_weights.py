"""The weights that gptexp ships, `base`, and the configs that start from them by default.

A run must not be tested on texts that base was trained on: data=pydocs and data=debian have to hold out the same ones.
"""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.errors import UserError

if TYPE_CHECKING:
    from gptexp.config.schema import Config

FOLDER = Path(__file__).resolve().parents[1] / "weights" / "base"
# Settings of a model that may differ from those of the weights that it starts from.
FREE_SETTINGS = {"balance_loss", "context", "dropout", "initialisation"}
HELD_OUT_FRACTION = (
    0.1  # of the docstrings, and of Debian's source packages, that base was not trained on
)


def default_init(config: "Config") -> str | None:
    """Return the weights that a run starts from: `init`, or `base` where it fits the task, model and tokenizer.

    Raises:
        UserError: init=base, and the data would be tested on texts that base was trained on.
    """
    if config.init == "scratch":
        return None
    fits_base = config.init is None and starts_from_base(config)
    if config.init != "base" and not fits_base:
        return config.init
    leaking = find_leaking_setting(config)
    if leaking and config.init == "base":
        raise UserError(
            f"{leaking}: would test on texts that base was trained on. "
            f"Leave it at its default, or start with init=scratch"
        )
    if leaking:
        print(
            f"starting from random weights: base was trained on texts that {leaking} holds out",
            file=sys.stderr,
        )
        return None
    return "base"


def find_leaking_setting(config: "Config") -> str | None:
    """Return the setting that holds out texts that base was trained on, or None."""
    data = config.data
    if data.kind not in ("pydocs", "debian"):
        return None
    if data.kind == "pydocs":
        default = type(data)()  # how the data of base was split
        if not set(vars(data)["unseen"]) <= set(vars(default)["unseen"]):
            return f"data.unseen=[{','.join(vars(data)['unseen'])}]"
        if data.split != default.split:
            return f"data.split={data.split}"
    if data.val_fraction + data.test_fraction > HELD_OUT_FRACTION:
        return f"data.val_fraction={data.val_fraction}, data.test_fraction={data.test_fraction}"
    return None


def starts_from_base(config: "Config") -> bool:
    """Return whether the task starts from base by default and the model and tokenizer fit it."""
    if not config.task.starts_from_base or config.resume or config.model.arch == "encoder_decoder":
        return False
    if config.tokenizer.kind != "bpe" or config.tokenizer != type(config.tokenizer)():
        return False
    if config.model.kind != "transformer":
        return False
    shape = json.loads((FOLDER / "config.json").read_text("utf8"))["gptexp_model"]
    names_only = {"kind", "size", "preset", "arch"}
    return all(
        getattr(config.model, setting.name) == shape.get(setting.name, setting.default)
        for setting in fields(config.model)
        if setting.name not in FREE_SETTINGS | names_only
    )
