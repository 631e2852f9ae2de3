import pytest
import torch
from costed_models import SHAPE

from gptexp.config.schema import Config, PreferConfig, TrainerConfig
from gptexp.loss import LossCounts
from gptexp.model import TransformerConfig
from gptexp.model.cost import count_flops
from gptexp.runs import timings
from gptexp.training import throughput
from gptexp.training.throughput import (
    WARM_UP_STEPS,
    ThroughputMeter,
    count_step_sequences,
    count_training_flops,
)


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


def take_step(meter, clock, wait, compute, counts=LossCounts(targets=128, tokens=128)):  # noqa: B008
    meter.wait_for_batch()
    clock.pass_by(wait)
    meter.start_step()
    clock.pass_by(compute)
    return meter.end_step(counts)


def test_a_line_has_the_speed_of_its_steps_and_the_shares_of_lost_time(clock):
    config = TransformerConfig(**SHAPE)
    meter = ThroughputMeter(2, config, torch.device("cpu"), ranks=2)
    assert take_step(meter, clock, wait=1, compute=3) == 4
    assert take_step(meter, clock, wait=1, compute=3) == 4
    with meter.measure(timings.VALIDATION):
        clock.pass_by(8)
    row = meter.read()
    assert row[timings.TOKENS_PER_SECOND] == 2 * 128 / 8
    assert row[timings.STEP_MS] == 4000
    assert row[timings.DATA] == 2 / 16
    assert row[timings.VALIDATION] == 8 / 16
    assert row[timings.CHECKPOINTS] == 0
    assert timings.MFU not in row
    flops = count_flops(config, 2, 64).training  # of a step
    assert row[timings.TFLOPS] == pytest.approx(flops / 4 / 2 / 1e12, rel=1e-3)
    with meter.measure(timings.CHECKPOINTS):  # after the line, so in the next one
        clock.pass_by(4)
    take_step(meter, clock, wait=0, compute=4)
    assert meter.read()[timings.CHECKPOINTS] == 4 / 8


def test_known_gpus_have_a_utilisation(clock):
    config = TransformerConfig(**SHAPE)
    meter = ThroughputMeter(2, config, torch.device("cpu"), ranks=1)
    meter.peak = count_flops(config, 2, 64).training / 4  # so that 10 s are 0.4 of the peak
    take_step(meter, clock, wait=0, compute=10)
    assert meter.read()[timings.MFU] == pytest.approx(0.4)


def test_the_first_line_of_a_process_leaves_out_its_slow_steps(clock):
    meter = ThroughputMeter(2, None, torch.device("cpu"), ranks=1)
    for _ in range(WARM_UP_STEPS):
        take_step(meter, clock, wait=0, compute=60)
    take_step(meter, clock, wait=0, compute=1)
    row = meter.read()
    assert row[timings.STEP_MS] == 1000
    assert timings.TFLOPS not in row


def test_lines_of_a_few_steps_have_all_of_them(clock):
    meter = ThroughputMeter(2, None, torch.device("cpu"), ranks=1)
    for _ in range(2):
        for _ in range(WARM_UP_STEPS):
            take_step(meter, clock, wait=0, compute=2)
        assert meter.read()[timings.STEP_MS] == 2000


def test_time_in_torch_compile_is_told_apart(clock, monkeypatch):
    compiling = [0.0]
    monkeypatch.setattr(throughput, "compile_seconds", lambda: compiling[0])
    monkeypatch.setattr(throughput, "count_compiled_graphs", lambda: 2)
    meter = ThroughputMeter(2, None, torch.device("cpu"), ranks=1)
    compiling[0] = 8.0
    assert take_step(meter, clock, wait=0, compute=9) == 9
    with meter.measure(timings.VALIDATION):
        clock.pass_by(7)
        compiling[0] = 12.0
    row = meter.read()
    assert row[timings.STEP_MS] == 1000
    assert row[timings.COMPILATION] == 12 / 16
    assert row[timings.VALIDATION] == 3 / 16
    assert row[timings.COMPILE_SECONDS] == 12
    texts = timings.describe_speed(row)
    assert "2 compiled graphs" in texts
    assert "75% compilation" in texts


def test_excluded_time_is_in_no_figure(clock):
    meter = ThroughputMeter(2, None, torch.device("cpu"), ranks=1)
    meter.wait_for_batch()
    meter.start_step()
    with meter.exclude():
        clock.pass_by(100)
    clock.pass_by(2)
    with meter.measure(timings.VALIDATION):
        clock.pass_by(2)
    assert meter.end_step(LossCounts(tokens=1)) == 4
    assert meter.read()[timings.VALIDATION] == 0.5


def test_operations_follow_from_the_counts_of_the_batches():
    config = TransformerConfig(**SHAPE)
    full = count_flops(config, 6, 50).training
    assert count_training_flops(config, 6, LossCounts(targets=300, tokens=300)) == full
    masked = count_flops(config, 6, 50, targets=45).training
    assert count_training_flops(config, 6, LossCounts(targets=45, tokens=300)) == masked
    pair = TransformerConfig(**SHAPE, arch="encoder_decoder")
    expected = count_flops(pair, 6, 20, source=30).training
    assert count_training_flops(pair, 6, LossCounts(targets=120, tokens=300)) == expected


def test_a_pair_of_answers_is_two_sequences_and_a_length_beyond_the_context_fails_no_run():
    config = Config(task=PreferConfig(), trainer=TrainerConfig(global_batch_size=3))
    assert count_step_sequences(config) == 6
    model = TransformerConfig(**SHAPE)
    full = count_flops(model, 3, SHAPE["context"]).training
    counts = LossCounts(targets=192, tokens=192)
    assert count_training_flops(model, 1, counts) == full
    model = TransformerConfig(**SHAPE, arch="encoder_decoder")
    assert count_training_flops(model, 1, LossCounts(targets=192, tokens=384)) > full


def test_operations_of_features_are_not_counted():
    config = TransformerConfig(**SHAPE, feature_size=12)
    assert count_training_flops(config, 6, LossCounts(targets=45, tokens=300)) == 0
    assert count_training_flops(TransformerConfig(**SHAPE), 6, LossCounts()) == 0
