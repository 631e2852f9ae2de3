"""Models that no rank holds as a whole: each rank fills, restores and evaluates its shard."""

import pytest

from gptexp.distributed.process_group import STEP_TIMEOUT, TIMEOUT, ProcessGroup
from gptexp.run import run
from gptexp.training import sharded_models


def test_a_sharded_model_is_tuned_and_evaluated_as_on_one_device(translation, monkeypatch):
    """It starts from weights of another run and from random adapters, and ends with the metrics of the best shards."""
    base = run(translation("outputs=base", "trainer.max_steps=2"))
    words = [f"init={base.path}", "optim=adamw", "optim.lora_rank=2", "trainer.max_steps=4"]
    whole = run(translation(*words, "outputs=whole"))
    monkeypatch.setattr(sharded_models, "can_hold_model", lambda *_: False)
    monkeypatch.setattr(sharded_models, "load_run", None)
    timeouts = []
    monkeypatch.setattr(ProcessGroup, "set_timeout", lambda _, timeout: timeouts.append(timeout))
    shards = run(translation(*words, "trainer.strategy=fsdp", "outputs=shards"))
    assert timeouts == [TIMEOUT, STEP_TIMEOUT, TIMEOUT, TIMEOUT]  # the last for the new groups
    for a, b in zip(whole.metrics(), shards.metrics(), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-6)
    assert shards.result()["metrics"] == pytest.approx(whole.result()["metrics"], abs=1e-6)
    assert shards.result()["parameters"] == whole.result()["parameters"]
    assert shards.samples() == whole.samples()
