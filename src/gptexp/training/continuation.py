"""The state of a checkpoint that a run continues from."""

from typing import Any

from gptexp.config.schema import Config
from gptexp.data.loader import DataModule
from gptexp.data.permutation import OrderPosition
from gptexp.runs.run_folder import RunFolder
from gptexp.training.schedule import Plan


def complete_state(state: dict[str, Any], folder: RunFolder, config: Config) -> dict[str, Any]:
    """Return the state of a run's checkpoint with the entries that earlier versions did not write."""
    if {"order", "schedule"} <= state.keys():
        return state
    earlier = folder.resumed_config() or config  # of the run that wrote the checkpoint
    step, trainer = state["step"], earlier.trainer
    defaults = {
        "order": {"epoch": 0, "offset": step * trainer.global_batch_size},
        "schedule": Plan(earlier.schedule, trainer.max_steps).state(step),
    }
    return {**defaults, **state}


def restore_order(data: DataModule, state: dict[str, Any], is_same_data: bool) -> None:
    """Let `data` go on in the order of sequences where a checkpoint stands; on other data, with a new epoch."""
    position = OrderPosition(**state["order"]).advance(0, len(data.sequences))
    data.first_step = state["step"]
    if not is_same_data:
        done = state["step"] * data.config.global_batch_size
        position = data.sequences.begin_anew(position.epoch + 1, done)
    data.start = position
