"""When a run validates and saves, and on what."""

import json
from types import SimpleNamespace

import lightning as L
import pytest

from gptexp.data.loader import HeldOutDataset
from gptexp.run import run
from gptexp.training import recorder as recorder_module
from gptexp.training.recorder import Recorder
from gptexp.training.throughput import count_training_flops


@pytest.fixture
def clock(monkeypatch):
    """A clock of the recorder that stands still unless it is set."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(recorder_module, "time", clock)
    return clock


class TwentySeconds(L.Callback):
    """The time that each step takes."""

    def __init__(self, clock):
        self.clock = clock

    def on_train_batch_end(self, *_):
        self.clock.now += 20


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # A step that begins a minute after the last checkpoint is saved, as every fifth is.
        (["trainer.checkpoint_minutes=1", "trainer.checkpoint_every=5"], [4, 5, 9, 10, 12]),
        (["trainer.checkpoint_every=17", "trainer.max_steps=18"], [17, 18]),
        (["trainer.max_steps=18"], [16, 18]),  # five minutes
    ],
)
def test_a_checkpoint_is_due_after_steps_or_minutes(words, expected, translation, clock):
    config = translation(
        "data.val_fraction=0", "trainer.checkpoint_every=null", "trainer.keep_checkpoints=9", *words
    )
    folder = run(config, callbacks=[TwentySeconds(clock)])
    steps = [int(path.name.removeprefix("step-")) for path in folder.checkpoints.glob("step-*")]
    assert sorted(steps) == expected


def test_each_validation_reads_the_same_part_of_a_big_split_and_the_end_all_of_it(
    translation, capsys
):
    words = ["data.val_fraction=0.2", "data.test_fraction=0", "trainer.max_steps=8"]
    whole = run(translation(*words))
    assert "each validation" not in capsys.readouterr().err
    part = run(translation(*words, "trainer.val_tokens=300"))
    rows = [[row for row in folder.metrics() if "val/loss" in row] for folder in (whole, part)]
    assert all("val/targets" not in row for row in rows[0])
    [targets] = {row["val/targets"] for row in rows[1]}
    counts = json.loads((part.path / "data.json").read_text())["splits"]["val"]
    assert "of the validation split, as trainer.val_tokens=300 says" in capsys.readouterr().err
    assert 0 < targets < counts["tokens"] / 2
    assert all(one["val/loss"] != two["val/loss"] for one, two in zip(*rows, strict=True))
    assert "val/targets" not in part.result()["metrics"]
    # The same weights: a validation changes nothing.
    assert part.result()["metrics"]["val/loss"] == whole.result()["metrics"]["val/loss"]


class BatchCounts(L.Callback):
    """Notes the counts of each batch, and fails after one step."""

    def __init__(self, fails_after=None):
        self.fails_after, self.model, self.counts = fails_after, None, {}

    def on_train_batch_end(self, trainer, module, outputs, batch, *_):
        self.model, self.counts[module.step] = module.model.config, batch.counts
        if module.step == self.fails_after:
            raise RuntimeError("the machine went away")


def test_each_line_has_the_operations_so_far_also_after_a_failure(translation):
    first, second = BatchCounts(fails_after=7), BatchCounts()
    words = ["trainer.log_every=1", "trainer.skip_steps=[2]"]  # step 2 is counted from 0
    with pytest.raises(RuntimeError, match="went away"):
        run(translation(*words), callbacks=[first])
    folder = run(translation(*words), callbacks=[second])
    total, expected = 0, []
    for step, counts in (first.counts | second.counts).items():
        total += count_training_flops(second.model, 8, counts) if step != 3 else 0
        expected.append(total)
    assert list(second.counts) == [*range(5, 13)]
    assert [row["flops"] for row in folder.metrics()] == expected


@pytest.mark.parametrize(
    ("state", "size", "best"),
    [
        ({"val_sequences": 5}, 9, 1.5),
        ({"val_sequences": 6}, 9, None),
        ({}, 5, 1.5),  # of a version that validated on the whole split
        ({}, 9, None),
    ],
)
def test_a_best_loss_on_other_sequences_is_forgotten(state, size, best):
    forgotten = []
    checkpointer = SimpleNamespace(forget_best=lambda: forgotten.append(1))
    held_out = HeldOutDataset(range(size), batch_size=1, count=5)
    recorder = Recorder(None, None, checkpointer, {}, None, None, held_out)
    checkpoint = SimpleNamespace(state={"step": 3, "best_val_loss": 1.5, **state})
    recorder.resume_from(checkpoint, is_same_data=True)
    assert recorder.best_val_loss == best
    assert bool(forgotten) == (best is None)
