"""Compare the settings of a command with those of the run that `resume` or `init` names."""

from dataclasses import replace
from typing import Any

from gptexp.config.base_weights import FREE_SETTINGS
from gptexp.config.keys import iter_settings, result_settings
from gptexp.config.schema import BpeConfig, Config
from gptexp.config.values import show
from gptexp.errors import UserError

# Settings, or groups of them, that belong to the weights, the optimizer's state or the order of the sequences.
FIXED = (
    "model.",
    "tokenizer.",
    "optim.kind",
    "optim.lora_",
    "task.kind",
    "task.packing",
    "data.shuffle_block",
    "seed",
)
FREE = ("model.size", "model.dropout", "init_digest")
FRACTIONS = {"data.val_fraction", "data.test_fraction"}
SPLIT_SETTINGS = FRACTIONS | {"data.split", "data.unseen"}
REMARKS = {"trainer.global_batch_size": "the order of sequences goes on where that run stopped"}


def check_resume(config: Config, earlier: Config, run: str, steps_done: int) -> list[str]:
    """Refuse to continue a run with settings that cannot change, and describe those that do, in one line each.

    Args:
        run: path of the run that `resume` names, for messages. earlier: its config.

    Raises:
        UserError: a setting cannot change, or the run has no step left to do.
    """
    changes = find_changes(config, earlier)
    fixed = [key for key in changes if key.startswith(FIXED) and key not in FREE]
    problems = []
    if fixed:
        differences = ", ".join(_difference(key, *changes[key]) for key in fixed)
        same = " ".join(override(key, changes[key][1]) for key in fixed)
        problems.append(
            f"resume={run}: that run cannot continue with {differences}. Give {same} as there, "
            f"or start a new training from its weights: init={run} instead of resume="
        )
    if config.trainer.max_steps <= steps_done:
        problems.append(
            f"{override('trainer.max_steps', config.trainer.max_steps)}: {run} has done {steps_done} steps already, "
            f"and steps count on from there. Give more, for example trainer.max_steps={2 * steps_done}"
        )
    if problems:
        raise UserError("\n".join(problems))
    lines = []
    for key, values in changes.items():
        remark = REMARKS.get(key)
        if key == "trainer.skip_steps" and (late := _steps_before(steps_done, *values)):
            remark = f"too late for {', '.join(map(str, late))}, which that run has done"
        if key == "callbacks_digest":
            lines.append("the callback objects differ from those there")
        elif key != "init_digest":
            lines.append(_difference(key, *values) + (f": {remark}" if remark else ""))
    return lines


def _steps_before(steps_done: int, ours: list[int], theirs: list[int]) -> list[int]:
    """Return the steps to skip that a run has done, and not skipped."""
    return [step for step in ours if step < steps_done and step not in theirs]


def check_init(config: Config, earlier: Config | None) -> list[str]:
    """Refuse weights of another model, and describe in one line each what a person should know of the others.

    Args:
        earlier: the config of the run that trained the weights; None: they do not come from a run.

    Raises:
        UserError: the weights belong to another model.
    """
    lines = []
    if earlier is not None and earlier.model.kind == config.model.kind:
        _check_model(config, earlier)
    ours, default = config.tokenizer, BpeConfig()
    if ours not in (default, earlier.tokenizer if earlier else None):
        usual = replace(type(ours)(), kind=default.kind)
        words = [
            override(f"tokenizer.{key}", value)
            for key, _, value in iter_settings(ours)
            if value != getattr(usual, key)
        ]
        lines.append(
            f"init={config.init} brings its own tokenizer: {' '.join(words)} has no effect"
        )
    if earlier is not None and (splits := _wider_split(config, earlier)):
        lines.append(
            f"init={config.init} was trained on these data with another split: {', '.join(splits)}. "
            f"It may have seen texts that this run holds out"
        )
    return lines


def with_tokenizer_of(config: Config, earlier: Config) -> Config:
    """Return a config that records the tokenizer settings of the run whose weights and tokenizer it takes.

    A run that itself started from another has the tokenizer of that one, so resuming it needs no setting for it.
    """
    inherits = config.init or ((earlier.init or earlier.resume) and config.tokenizer == BpeConfig())
    return replace(config, tokenizer=earlier.tokenizer) if inherits else config


def _check_model(config: Config, earlier: Config) -> None:
    """Refuse a model whose weights have another shape or another meaning than those of an earlier run."""
    free = {"size", "preset", "vocab_size"} | FREE_SETTINGS
    if earlier.model.position == "learned":  # its table has a row for each position
        free -= {"context"}
    if "encoder_decoder" not in (earlier.model.arch, config.model.arch):
        free |= {"arch"}  # the attention mask changes no shape
    theirs = {key: value for key, _, value in iter_settings(earlier.model)}
    differing = {
        f"model.{key}": (value, theirs[key])
        for key, _, value in iter_settings(config.model)
        if key not in free and value != theirs[key]
    }
    if differing:
        differences = ", ".join(
            f"{override(key, there)}, not {show(here)}" for key, (here, there) in differing.items()
        )
        same = " ".join(override(key, there) for key, (_, there) in differing.items())
        raise UserError(f"init={config.init}: has {differences}. Settings that fit it: {same}")


def _wider_split(config: Config, earlier: Config) -> list[str]:
    """Return the split settings that differ, if both configs have the same data and this one may hold out others."""
    changes = {
        key: values
        for key, values in find_changes(config, earlier).items()
        if key.startswith("data.")
    }
    held_out = [data.val_fraction + data.test_fraction for data in (config.data, earlier.data)]
    if not changes.keys() <= SPLIT_SETTINGS or (
        changes.keys() <= FRACTIONS and held_out[0] <= held_out[1]
    ):
        return []
    return [_difference(key, *values) for key, values in changes.items()]


def find_changes(config: Config, earlier: Config) -> dict[str, tuple[Any, Any]]:
    """Return (value, earlier value) of each setting that affects the result and differs, by key.

    Where the kind of a group differs, its other settings do not compare.
    """
    ours, theirs = result_settings(config), result_settings(earlier)
    changes = {
        key: (value, theirs[key])
        for key, value in ours.items()
        if key in theirs and value != theirs[key]
    }
    kinds = tuple(key.removesuffix("kind") for key in changes if key.endswith(".kind"))
    return {
        key: values
        for key, values in changes.items()
        if key.endswith(".kind") or not key.startswith(kinds)
    }


def override(key: str, value: Any) -> str:
    """Return a setting as a person types it."""
    return f"{key.removesuffix('.kind')}={show(value)}"


def _difference(key: str, ours: Any, theirs: Any) -> str:
    """Return an override and the earlier value."""
    return f"{override(key, ours)} ({show(theirs)} there)"
