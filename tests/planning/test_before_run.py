from functools import cache

import pytest

from gptexp.config.compose import compose_config
from gptexp.errors import UserError
from gptexp.planning import before_run
from gptexp.planning.before_run import check_memory
from gptexp.planning.device_memory import GIB


@pytest.fixture
def machine(monkeypatch):
    """A CPU with so many GiB in all, and so many free."""

    def has(largest, free):
        monkeypatch.setattr(before_run, "largest_memory", lambda: largest and int(largest * GIB))
        monkeypatch.setattr(before_run, "available_memory", lambda: free and int(free * GIB))

    return has


@cache
def compose(*words):
    fixed = ["task=pretrain", "logger=none", "trainer.accelerator=cpu", "trainer.precision=32"]
    return compose_config([*fixed, *words])


def test_a_run_that_fits_is_started_without_a_word(machine):
    machine(8, 2)
    assert check_memory(compose("model=small")) is None


def test_a_run_that_may_not_fit_is_warned_of_with_what_helps(machine):
    machine(64, 1)
    warning = check_memory(compose("model=gpt2", "model.vocab_size=300", "optim=adamw"))
    assert "GiB are free: Linux may kill it" in warning
    machine(64, 4)
    warning = check_memory(compose("model=gpt2", "model.vocab_size=300", "optim=adamw"))
    assert "with trainer.micro_batch_size=1 (`gptexp plan`" in warning


def test_only_weights_and_optimizer_that_exceed_all_memory_are_refused(machine):
    machine(300, 1)
    refusal = r"model=gpt3-175b: weights and optimizer take 1,9\d\d GiB, and a device here has 300"
    with pytest.raises(UserError, match=refusal):
        check_memory(compose("model=gpt3-175b", "optim=adamw"))
    assert "may kill it" in check_memory(compose("model=gpt3-13b", "optim=adamw"))  # 144 GiB


def test_what_is_not_counted_is_not_refused(machine):
    machine(20, 20)
    words = ["model=gpt3-2.7b", "init=weights", "optim=adamw", "optim.lora_rank=8"]
    assert check_memory(compose(*words))  # 10 GiB of weights, and almost no moments
    machine(None, None)
    assert check_memory(compose("model=gpt3-175b")) is None


def test_processes_on_one_machine_share_its_memory(machine):
    machine(8, 4)
    config = compose("model=gpt2", "model.vocab_size=300", "trainer.micro_batch_size=1")
    assert check_memory(config) is None
    assert check_memory(config, processes=4, local=4)
