"""The weights that gptexp ships, `base`, and the configs that start from them by default.

A run must not be tested on texts that base was trained on: data=pydocs and data=debian have to hold out the same ones.
"""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptexp.config.registry import schemas
from gptexp.errors import UserError

if TYPE_CHECKING:
    from gptexp.config.schema import Config

FOLDER = Path(__file__).resolve().parents[1] / "weights" / "base"
# Settings of a model that may differ from those of the weights that it starts from.
FREE_SETTINGS = {"balance_loss", "base_width", "context", "dropout", "initialisation"}
HELD_OUT_FRACTION = (
    0.1  # of the docstrings, and of Debian's source packages, that base was not trained on
)
# Sources that base was trained on: as a token store describes them, and as data=KIND names them.
STORED_KINDS = {"docstrings": "pydocs", "descriptions of Debian packages": "debian"}
DOCSTRING_KINDS = ("pydocs", "chats", "preferences")  # data=KIND that divide docstrings alike


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
    if fits_base and config.data.kind == "tokens":
        print(
            "starting from random weights: a run with data=tokens starts from base only with init=base",
            file=sys.stderr,
        )
        return None
    leaking = find_leaking_setting(config)
    if leaking and config.init == "base":
        raise refuse_leak(leaking)
    if leaking:
        print(
            f"starting from random weights: base was trained on texts that {leaking} holds out",
            file=sys.stderr,
        )
        return None
    return "base"


def refuse_leak(leaking: str) -> UserError:
    """Return the error about a setting that holds out texts that base was trained on."""
    return UserError(
        f"{leaking}: would test on texts that base was trained on. "
        f"Leave it at its default, or start with init=scratch"
    )


def find_leaking_setting(config: "Config") -> str | None:
    """Return the setting that holds out texts that base was trained on, or None."""
    data = config.data
    if data.kind == "tokens":
        return _find_leaking_store(vars(data)["path"])
    unseen = vars(data).get("unseen", [])
    kind = "pydocs" if data.kind in DOCSTRING_KINDS else data.kind
    return _find_leak(kind, unseen, data.split, data.val_fraction, data.test_fraction)


def _find_leaking_store(folder: str) -> str | None:
    """Return how a token store was made, where that holds out texts that base was trained on.

    A folder that is no store is refused where it is opened (open_store).
    """
    try:
        meta = json.loads((Path(folder) / "meta.json").read_text("utf8"))
    except (OSError, ValueError):
        return None
    return find_leaking_split(meta, folder)


def find_leaking_split(meta: Any, folder: str) -> str | None:
    """Return how a token store was made, where its meta.json holds out texts that base was trained on."""
    try:
        corpus, (split, val_fraction, test_fraction, _) = meta["corpus"], meta["split"]
        kind = STORED_KINDS.get(corpus["source"], "")
        leaking = _find_leak(kind, corpus.get("unseen", []), split, val_fraction, test_fraction)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return leaking and f"data.path={folder}, made with data={kind} {leaking}"


def _find_leak(
    kind: str, unseen: list[str], split: str, val_fraction: float, test_fraction: float
) -> str | None:
    if kind not in STORED_KINDS.values():
        return None
    default: Any = schemas("data")[kind]()  # how the data of base was split
    if kind == "pydocs" and not set(unseen) <= set(default.unseen):
        return f"data.unseen=[{','.join(unseen)}]"
    if split != default.split:
        return f"data.split={split}"
    if val_fraction + test_fraction > HELD_OUT_FRACTION:
        return f"data.val_fraction={val_fraction}, data.test_fraction={test_fraction}"
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
