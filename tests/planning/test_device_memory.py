from dataclasses import replace
from functools import cache

import pytest

from gptexp.config.compose import compose_config
from gptexp.model.cost import count_parameters
from gptexp.planning.changes import find_change
from gptexp.planning.device_memory import GIB, MARGIN, Placement, plan_memory
from gptexp.planning.workload import describe_workload


@cache
def composed(name):
    words = ["task=pretrain", "tokenizer=hf", "logger=none", "optim=adamw"]
    return compose_config([f"model={name}", *words])


def plan(name="gpt2", *, on_gpu=True, memory=80 * GIB, context=None, **trainer):
    config = composed(name)
    model = replace(config.model, context=context or config.model.context)
    config = replace(config, model=model, trainer=replace(config.trainer, **trainer))
    workload = describe_workload(config)
    planned = plan_memory(config, workload, on_gpu=on_gpu, bf16=True, device_bytes=memory)
    return config, workload, planned


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"devices": 4}, Placement(4, 4, 1, 1, 1)),
        ({"devices": 4, "nodes": 2, "strategy": "hsdp"}, Placement(8, 2, 1, 1, 4)),
        ({"devices": 8, "strategy": "fsdp", "tensor_parallel": 2}, Placement(8, 4, 2, 1, 4)),
        ({"devices": 8, "context_parallel": 4}, Placement(8, 8, 1, 4, 1)),
    ],
)
def test_processes_share_sequences_and_weights(trainer, expected):
    assert Placement.of(plan(**trainer)[0].trainer) == expected


def test_a_sharded_run_has_a_part_of_weights_gradients_and_moments():
    _, workload, alone = plan("gpt2-xl", devices=8, global_batch_size=8)
    _, _, shard = plan("gpt2-xl", devices=8, global_batch_size=8, strategy="fsdp")
    assert alone.permanent == 12 * count_parameters(workload.model)
    assert shard.permanent == pytest.approx(alone.permanent / 8, rel=1e-6)
    assert shard.total < alone.total
    assert "exchange between devices" in shard.parts
    # blocks are gathered in bf16: autocast copies the weights of the head alone
    assert shard.parts["copies of weights in bf16"] == 2 * 1600 * workload.model.vocab_size


def test_processes_that_divide_matrices_or_sequences_need_less():
    sharded = {"devices": 4, "strategy": "fsdp"}
    _, _, plain = plan(**sharded)
    _, _, tensor = plan(**sharded, tensor_parallel=2)
    _, _, context = plan(**sharded, context_parallel=4)
    assert tensor.parts["activations"] < 2 * plain.parts["activations"]  # of twice the sequences
    assert context.parts["logits"] == plain.parts["logits"]


def test_the_parts_make_the_total_and_a_gpu_has_a_driver():
    _, _, on_gpu = plan()
    _, _, on_cpu = plan(on_gpu=False)
    assert sum(on_gpu.parts.values()) == on_gpu.total
    assert "driver and libraries (assumed)" in on_gpu.parts
    assert (on_gpu.micro_batch, on_cpu.micro_batch) == (16, 2)  # 2,048 tokens on a CPU
    assert on_cpu.of_steps < on_cpu.total


def test_weights_that_stay_on_the_host_are_not_on_the_device():
    _, workload, offloaded = plan(strategy="fsdp", micro_batch_size=1, cpu_offload=True)
    assert offloaded.on_host == 16 * count_parameters(workload.model)
    assert "weights" not in offloaded.parts


def test_the_cheapest_change_that_fits_is_found():
    def change(name="gpt2", *, memory, **settings):
        config, workload, present = plan(name, memory=memory, **settings)
        assert present.total > MARGIN * memory
        words, changed = find_change(config, workload, memory, on_gpu=True, bf16=True)
        assert changed.total <= MARGIN * memory
        return words

    assert change(memory=10 * GIB) == ["trainer.micro_batch_size=8"]
    assert change(memory=8 * GIB, context=8192, global_batch_size=1) == [
        "trainer.activation_checkpointing=selective"
    ]
    words = change("gpt3-6.7b", memory=80 * GIB, devices=8, global_batch_size=8)
    assert words[0] == "trainer.strategy=fsdp"
    words = change("gpt3-175b", memory=80 * GIB)
    assert {"trainer.strategy=fsdp", "trainer.devices=8"} < set(words)
    assert "trainer.activation_checkpointing=full" in words
    words = change("gpt3-175b", memory=80 * GIB, global_batch_size=100)
    sizes = dict(word.split("=") for word in words)
    devices = int(sizes["trainer.devices"]) * int(sizes.get("trainer.nodes", 1))
    assert int(sizes["trainer.global_batch_size"]) % devices == 0  # else gptexp run refuses it
    words = change("gpt3-6.7b", memory=80 * GIB, devices=1, nodes=2, global_batch_size=8)
    assert words[0] == "trainer.strategy=fsdp"


def test_on_a_cpu_no_more_devices_are_advised():
    config, workload, _ = plan("gpt3-175b", on_gpu=False)
    assert find_change(config, workload, 8 * GIB, on_gpu=False, bf16=True) is None


def test_a_longer_micro_batch_needs_more():
    _, _, small = plan(micro_batch_size=1)
    _, _, large = plan(micro_batch_size=4)
    assert large.parts["activations"] == pytest.approx(4 * small.parts["activations"], rel=0.01)


def test_lora_has_gradients_and_moments_of_its_adapters():
    words = ["init=weights", "optim.lora_rank=8", "optim.lora_targets=[query,value]"]
    config = compose_config(["model=gpt2", "task=pretrain", "tokenizer=hf", "optim=adamw", *words])
    workload = describe_workload(config)
    planned = plan_memory(config, workload, on_gpu=True, bf16=True, device_bytes=80 * GIB)
    adapters = 12 * 2 * 8 * (768 + 768)
    assert (workload.adapters, workload.trained) == (adapters, adapters)
    assert planned.weights == 4 * (count_parameters(workload.model) + adapters)
    assert planned.permanent == planned.weights + 8 * adapters
    assert "with LoRA, operations, time and activations are" in workload.assumptions[-1]
