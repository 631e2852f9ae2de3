from types import SimpleNamespace

import pytest

from gptexp.training.progress_bar import WARM_UP_STEPS, ProgressBar


@pytest.fixture
def module():
    return SimpleNamespace(step=0, seconds=0.0)


def take_steps(bar, module, steps, seconds):
    for _ in range(steps):
        module.step += 1
        module.seconds += seconds
        speed = {"speed/tokens_per_second": 100 / seconds, "speed/step_ms": 1000 * seconds}
        bar.recorder.last_row = {"step": module.step, "train/loss": 2.5, **speed}
        bar.on_train_batch_end(None, module)


def test_slow_first_steps_have_no_part_in_the_remaining_time(module):
    bar = ProgressBar(SimpleNamespace(last_row={}), steps=13)
    bar.on_train_start(None, module)
    assert bar._line(module) == "step 0/13: computing the first step"
    take_steps(bar, module, WARM_UP_STEPS, seconds=60)
    assert bar._line(module) == "step 3/13: loss 2.500, 2 tokens/s, 60,000 ms/step"
    take_steps(bar, module, 5, seconds=0.5)
    assert bar._line(module) == "step 8/13: loss 2.500, 200 tokens/s, 500 ms/step, 2 s left"
    bar.on_train_end()


def test_validations_and_the_last_step_are_printed_at_once(module, capsys):
    bar = ProgressBar(SimpleNamespace(last_row={}), steps=2)
    bar.on_train_start(None, module)
    take_steps(bar, module, 2, seconds=0.5)
    bar.on_train_end()
    assert capsys.readouterr().err == "step 2/2: loss 2.500, 200 tokens/s, 500 ms/step\n"
