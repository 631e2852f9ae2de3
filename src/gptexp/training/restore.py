"""Going on from a checkpoint: what it has to agree with, and what comes back."""

import sys
from pathlib import Path
from typing import Any

from gptexp.checkpoints import checkpoint
from gptexp.checkpoints.load_model import add_lora, load_pretrained
from gptexp.config.keys import iter_settings
from gptexp.config.schema import Config
from gptexp.errors import UserError
from gptexp.tasks.prepare import TaskData
from gptexp.training.module import Module
from gptexp.training.recorder import Recorder


def fingerprint_of(config: Config, prepared: TaskData) -> dict[str, Any]:
    """What a checkpoint has to agree with to go on from it."""
    model = {
        key: value
        for key, _, value in iter_settings(config.model)
        if key not in ("size", "dropout")
    }
    store = prepared.store
    return {
        "model": {**model, "vocab_size": store.tokenizer.vocab_size},
        "tokenizer": store.tokenizer.fingerprint(),
        "data": store.content_fingerprint,
        "optimizer": config.optim.kind,
    }


def restore(module: Module, recorder: Recorder, found: Path | None) -> None:
    """Go on from a checkpoint, or begin with what `init` names, or with the seed."""
    config, process_group, folder = module.config, module.process_group, recorder.folder
    if found is not None:
        theirs = checkpoint.manifest(found)["belongs_to"]
        _compare(theirs, recorder.fingerprint_of, found, config.allow_mismatch)
        add_lora(module.model, config.optim)
        checkpoint.load_weights(found, module.model)
        state = checkpoint.read_state(found)
        module.step, module.tokens, module.seconds = (
            state["step"],
            state["tokens"],
            state["seconds"],
        )
        recorder.resumed_from, recorder.saved = found, module.step
        if theirs["data"] == recorder.fingerprint_of["data"]:
            recorder.best = state["best"]
        elif process_group.is_rank_zero:  # what was best on other data is not
            (folder.checkpoints / "best").unlink(missing_ok=True)
    elif config.init:
        load_pretrained(module.model, config)
        add_lora(module.model, config.optim)
    sizes = (
        folder.read_record("micro_batch").get("micro_batch_size"),
        config.trainer.micro_batch_size,
    )
    module.micro_batch_size = min((size for size in sizes if size), default=None)
    if process_group.is_rank_zero:
        folder.update_result(status="running", error=None)
        if found is not None:
            print(f"resuming at step {module.step} of {config.trainer.max_steps}", file=sys.stderr)


def _compare(theirs: dict[str, Any], ours: dict[str, Any], path: Path, accepted: list[str]) -> None:
    for key in ("model", "tokenizer", "optimizer", "data"):
        if theirs[key] == ours[key] or key in accepted:
            continue
        if key == "model":
            names = sorted(
                name
                for name in {**theirs[key], **ours[key]}
                if theirs[key].get(name) != ours[key].get(name)
            )
            said = ", ".join(
                f"{name} {theirs[key].get(name)} there, {ours[key].get(name)} here"
                for name in names
            )
        else:
            said = f"{theirs[key]} there, {ours[key]} here"
        hint = f" allow_mismatch=[{key}] goes on all the same." if key == "data" else ""
        raise UserError(
            f"{path}: was trained with another {key}: {said}.{hint} fresh=true starts again"
        )
