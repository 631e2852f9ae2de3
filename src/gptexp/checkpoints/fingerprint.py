"""The fingerprint of a checkpoint: model, tokenizer, data and optimizer, which have to agree to continue from it."""

from typing import Any

from gptexp.checkpoints.checkpoint import Checkpoint
from gptexp.config.keys import iter_settings
from gptexp.config.schema import Config
from gptexp.data.token_store import TokenStore
from gptexp.errors import UserError

UNCHECKED_SETTINGS = ("size", "dropout")  # of the model; they may differ from the checkpoint's


def compute_fingerprint(config: Config, store: TokenStore) -> dict[str, Any]:
    model = {
        key: value for key, _, value in iter_settings(config.model) if key not in UNCHECKED_SETTINGS
    }
    return {
        "model": {**model, "vocab_size": store.tokenizer.vocab_size},
        "tokenizer": store.tokenizer.fingerprint(),
        "data": store.content_fingerprint,
        "optimizer": config.optim.kind,
    }


def check_fingerprint(
    checkpoint: Checkpoint,
    ours: dict[str, Any],
    allowed: list[str],
    advice: str = "fresh=true starts again",
) -> None:
    """Refuse a checkpoint of another model, tokenizer, optimizer or data, except for the parts in `allowed`.

    Args:
        advice: for messages, how to start a new training.

    Raises:
        UserError: a part differs; the message names the difference.
    """
    for part in ("model", "tokenizer", "optimizer", "data"):
        theirs = checkpoint.fingerprint[part]
        if theirs == ours[part] or part in allowed:
            continue
        difference = f"{theirs} there, {ours[part]} here"
        if part == "model":
            difference = ", ".join(
                f"{name} {theirs.get(name)} there, {ours[part].get(name)} here"
                for name in sorted({**theirs, **ours[part]})
                if theirs.get(name) != ours[part].get(name)
            )
        before, hint = f"with another {part}", ""
        if part == "data":
            before, hint = "on other data", " allow_mismatch=[data] continues all the same."
        raise UserError(f"{checkpoint.path}: was trained {before}: {difference}.{hint} {advice}")
