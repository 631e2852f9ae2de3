import pytest
import torch

from gptexp.config.compose import compose_config
from gptexp.planning import measure
from gptexp.planning.device_memory import Placement, count_micro_batch
from gptexp.planning.measure import Measurement, choose_probes, measure_speed
from gptexp.planning.workload import describe_workload


def probes_of(*words):
    config = compose_config(["task=pretrain", "tokenizer=hf", "logger=none", *words])
    workload = describe_workload(config)
    size = count_micro_batch(config.trainer, Placement.of(config.trainer), workload, False)
    planned = measure._probe(workload, size, workload.tokens)
    return choose_probes(workload, planned, "cpu", config.optim.kind), planned


def test_a_small_model_is_measured_as_it_is():
    probes, planned = probes_of("model=nano", "tokenizer=byte")
    assert probes == [planned]
    assert planned.sequences * planned.tokens == 2048


def test_large_models_are_measured_in_seconds():
    layers, _ = probes_of("model=gpt2", "tokenizer=byte", "model.layers=24")
    assert [probe.model.layers for probe in layers] == [1, 3]
    for name in ("gpt2-xl", "gpt3-175b", "gpt4-class"):
        probes, _ = probes_of(f"model={name}")
        assert sum(probe.flops for probe in probes) <= 2 * measure.PROBE_FLOPS["cpu"]
        updates = [measure.count_update_flops(probe.model, "muon") for probe in probes]
        assert sum(updates) <= 4 * measure.PROBE_FLOPS["cpu"]


def test_times_are_extrapolated_in_layers(monkeypatch):
    config = compose_config(
        [
            "task=pretrain",
            "model=gpt2",
            "tokenizer=byte",
            "trainer.global_batch_size=3",
            "logger=none",
        ]
    )
    workload = describe_workload(config)
    monkeypatch.setattr(
        measure,
        "_measure_in_process",
        lambda *_, **__: [Measurement(1, 0.5, 2, 1, 9), Measurement(2, 0.7, 4, 1.4, 9)],
    )
    speed = measure_speed(config, workload, "cpu")
    # A layer takes 0.5 s of a sequence and 0.1 s of an update; twelve take 6.5 s and 1.6 s.
    assert speed.step_seconds == pytest.approx(3 * 6.5 + 1.6)
    assert speed.step_cpu_seconds == pytest.approx(2 * speed.step_seconds)
    assert speed.peak_bytes is None
    assert "1 and 3 of 12 layers" in speed.description


def test_random_batches_of_every_kind_of_model_can_be_trained(monkeypatch):
    monkeypatch.setattr(measure, "PROBE_SECONDS", 0.0)
    for words in (
        ["task=pretrain"],
        ["task=summarize", "model.arch=prefix"],
        ["task=translate", "model.arch=encoder_decoder"],
        ["task=bert"],
        ["task=extract"],
        ["task=pretrain", "model.experts=4"],
    ):
        config = compose_config(["model=nano", "logger=none", "trainer.precision=32", *words])
        workload = describe_workload(config)
        probe = measure._shrink(measure._probe(workload, 1, workload.tokens))
        measured = measure._measure(config, probe, torch.device("cpu"))
        assert measured.micro_batch > 0
        assert measured.update > 0
