"""The GPU decoder on a CPU, with a stand-in for CUDA graphs, against the reference."""

import pytest
import torch
from models import EXPERTS, GPT2, KINDS, PROMPTS, a_model, generate

from gptexp.generation import generator as generator_module
from gptexp.generation import gpu_decoder
from gptexp.generation.cuda_graphs import CudaGraphs
from gptexp.generation.decode_state import DecodeState
from gptexp.generation.feature_decoding import generate_features
from gptexp.generation.generator import Generator
from gptexp.generation.gpu_decoder import GpuDecoder, bucket, count_fitting_rows
from gptexp.generation.host_copy import HostCopy
from gptexp.generation.prompt import Prompt
from gptexp.model import lora
from gptexp.sampling import Sampling

LLAMA3 = (
    ("factor", 8.0),
    ("high_freq_factor", 4.0),
    ("low_freq_factor", 1.0),
    ("original_max_position_embeddings", 16),
)
SHAPES = [
    *KINDS,
    {"window": 3, "window_pattern": "SL"},
    {"kv_heads": 1, "head_dim": 16, "rope_scaling": LLAMA3},
]


@pytest.fixture
def on_gpu(monkeypatch):
    """The CPU plays the GPU: its decoder, and steps that begin before the last one is read."""
    monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")


@pytest.fixture
def replays(monkeypatch):
    """Graphs that write their result into the same tensor each time; the list counts them by key."""
    counts = {}

    def record(graphs, function):
        result = torch.full_like(graphs.example, torch.nan)
        key = len(counts)

        def replay():
            counts[key] = counts.get(key, 0) + 1
            result.copy_(function())

        counts[key] = 0
        return replay, result

    original = CudaGraphs.run

    def run(graphs, key, function):
        graphs.is_on = True
        result = original(graphs, key, function)
        graphs.example = result
        return result

    monkeypatch.setattr(CudaGraphs, "_record", record)
    monkeypatch.setattr(CudaGraphs, "run", run)
    return counts


def prompts_of(rows):
    return [Prompt(tuple(row)) for row in rows]


@torch.inference_mode()
def difference(model, decoder, prompts=PROMPTS):
    """Largest difference to the model's own logits over some steps, relative to the largest logit."""
    states = [DecodeState(model, prompts_of(prompts), 10, choice) for choice in (decoder, None)]
    worst = 0.0
    for step in range(8):
        tokens = states[1].logits.argmax(dim=-1)
        for state in states:
            state.step(tokens)
            if step == 1:
                state.select(range(len(prompts)), has_same_prompts=True)
            elif step == 3 and len(prompts) > 1:  # reorder, repeat and drop
                state.select([2, 0, 2])
            elif step == 5 and len(prompts) > 1:
                state.select([2, 1])
        ours, theirs = (state.logits for state in states)
        worst = max(worst, float((ours - theirs).abs().max() / theirs.abs().max()))
    return worst


@pytest.mark.parametrize("kind", SHAPES)
def test_the_logits_are_those_of_the_model(kind, replays):
    model = a_model(**kind)
    decoder = GpuDecoder(model)
    assert difference(model, decoder) < 2e-6
    assert difference(model, decoder, PROMPTS[:1]) < 2e-6
    assert difference(model, decoder, PROMPTS[::-1]) < 2e-6  # in the tensors of the first batch
    assert sum(replays.values()) > 10
    assert 0 < difference(model.bfloat16(), GpuDecoder(model)) < 0.02


def test_layers_that_are_too_large_to_fuse_are_products_of_their_own(monkeypatch):
    monkeypatch.setattr(gpu_decoder, "MAX_FUSED_WEIGHTS", 0)
    for kind in ({}, GPT2):
        model = a_model(**kind)
        assert difference(model, GpuDecoder(model)) < 2e-6


@pytest.mark.parametrize("has_decoder", [True, False])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(0.9, top_k=9, top_p=0.9, min_p=0.1, no_repeat_ngram=2, repetition_penalty=1.5),
        Sampling(num_beams=3, no_repeat_ngram=2),
    ],
)
def test_nothing_waits_for_the_device_but_the_copies_of_tokens(sampling, has_decoder, monkeypatch):
    monkeypatch.setattr(gpu_decoder, "DEVICE", "meta")  # its tensors have no numbers to wait for
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    copied = []

    def tolist(copy):
        copied.append(copy._host.shape)
        return torch.zeros(copy._host.shape, dtype=copy._host.dtype).tolist()

    monkeypatch.setattr(HostCopy, "tolist", tolist)
    model = a_model(arch="encoder_decoder", window=3).to("meta")
    if not has_decoder:
        monkeypatch.setattr(GpuDecoder, "for_model", lambda _: None)
    generate(model, PROMPTS, 4, -1, sampling, stopping_criteria=lambda row: len(row) == 3)
    generate(model, PROMPTS, 4, -1, sampling)
    assert copied


@pytest.mark.parametrize("kind", [{}, {"arch": "encoder_decoder"}, EXPERTS])
def test_the_answers_are_those_of_a_cpu(kind, monkeypatch, replays):
    model = a_model(**kind)
    prompts = [*PROMPTS, *PROMPTS[:2], [3, 2, 1]]
    free = generate(model, prompts, 14, -1)
    eos = [free[0][2], free[2][5]]  # the batch shrinks
    calls = [
        (Sampling(), {}),
        (Sampling(), {"stopping_criteria": lambda row: len(row) == 5 or row[-1] == free[1][3]}),
        (Sampling(0.9, top_k=20, top_p=0.9, no_repeat_ngram=2), {"seeds": [1, 2, 3, 4, 5, 6]}),
        (Sampling(0.9, mbr_samples=5), {}),
        (Sampling(num_beams=3, repetition_penalty=1.3), {}),
        (Sampling(num_beams=3), {"stopping_criteria": lambda row: len(row) == 5}),
    ]
    expected = [generate(model, prompts, 14, eos, sampling, **more) for sampling, more in calls]
    monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")
    assert expected == [
        generate(model, prompts, 14, eos, sampling, **more) for sampling, more in calls
    ]
    assert bool(replays) == ("experts" not in kind)
    assert generate(model, PROMPTS, 6, weights="bfloat16")  # all models, in bf16 throughout


@pytest.mark.usefixtures("on_gpu")
def test_streams_of_one_generator_do_not_disturb_each_other():
    model = a_model()
    expected = generate(model, PROMPTS[:2], 10, -1)
    generator = Generator(model, eos=-1)
    streams = [generator.stream(prompts_of([prompt]), 10) for prompt in PROMPTS[:2]]
    steps = list(zip(*streams, strict=True))
    assert [[step[number][0] for step in steps] for number in range(2)] == expected


@pytest.mark.usefixtures("on_gpu")
def test_tensors_and_graphs_serve_again_in_the_next_batch(replays, monkeypatch):
    generator = Generator(a_model(), eos=-1)
    prompts = prompts_of(PROMPTS)
    first = generator.generate(prompts, 10)
    batch, graphs = generator._decoder._batch, len(replays)
    assert generator.generate(prompts, 10) == first
    assert generator._decoder._batch is batch
    assert len(replays) == graphs == 1
    samples = generator.generate(prompts, 10, Sampling(0.9, mbr_samples=4))
    monkeypatch.setattr(generator_module, "count_fitting_rows", lambda *_: 4)
    monkeypatch.setattr(generator_module, "MAX_BATCH_ROWS", 4)
    batch = generator._decoder._batch
    assert generator.generate(prompts, 10, Sampling(0.9, mbr_samples=4)) == samples
    assert generator._decoder._batch is batch


def test_long_answers_go_through_graphs_of_growing_caches(monkeypatch, replays):
    model = a_model(context=300)
    expected = generate(model, PROMPTS[:1], 290, -1)
    monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")
    assert generate(model, PROMPTS[:1], 290, -1) == expected
    assert len(replays) == 3


def test_without_graphs_generation_goes_on(monkeypatch):
    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    model = a_model()
    expected = generate(model, PROMPTS, 10, -1)
    monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")
    monkeypatch.setattr(CudaGraphs, "_record", fail)
    original = CudaGraphs.__init__

    def turn_on(graphs, device, user):
        original(graphs, device, user)
        graphs.is_on = True

    monkeypatch.setattr(CudaGraphs, "__init__", turn_on)
    with pytest.warns(UserWarning, match="without CUDA graphs: operation not permitted when .*ng$"):
        assert generate(model, PROMPTS, 10, -1) == expected


@pytest.mark.parametrize(
    ("tokens", "size"),
    [(1, 128), (128, 128), (129, 256), (600, 640), (1024, 1024), (1025, 1280), (5000, 5120)],
)
def test_a_cache_grows_by_a_quarter_at_most(tokens, size):
    assert bucket(tokens) == size


@pytest.mark.usefixtures("on_gpu")
def test_adapted_layers_are_left_to_the_model():
    model = a_model()
    lora.add(model, 2, 4.0, ["query"])
    assert GpuDecoder.for_model(model) is None
    lora.merge(model)
    assert GpuDecoder.for_model(model) is not None
    model.blocks[0].double()
    assert GpuDecoder.for_model(model) is None


def test_a_compiled_model_generates_uncompiled(monkeypatch):
    model, graphs = a_model(arch="encoder_decoder"), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    expected = generate(model, PROMPTS, 6)
    for block in (*model.blocks, *model.encoder.blocks):
        block.compile(backend=backend)
    model.build_block_mask = lambda *_, **__: pytest.fail("a mask of FlexAttention")
    monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")
    monkeypatch.setattr(GpuDecoder, "for_model", lambda _: None)
    assert generate(model, PROMPTS, 6) == expected
    assert not graphs
    assert model.build_block_mask is not None
    model.build_block_mask = None
    with torch.no_grad():
        model.encode(torch.tensor(PROMPTS[:1]), torch.tensor([3]))
    assert graphs


def test_a_batch_fills_a_gpu_but_not_its_memory():
    config = a_model().config
    assert count_fitting_rows(config, 24) == 256
    config.layers, config.kv_heads, config.head_dim = 48, 25, 64  # GPT-2 XL
    assert count_fitting_rows(config, 1024) == 13


def test_rows_of_features_are_those_of_a_cpu(monkeypatch):
    shape = {"feature_size": 3, "feature_bins": 8, "predicts_features": True}
    model = a_model(**shape)
    with torch.no_grad():  # some answers end early
        model.feature_head.project.bias[-1] = -0.18
    expected = generate_features(model, prompts_of(PROMPTS), 12)
    assert len({len(rows) for rows in expected}) > 1
    monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")
    for ours, theirs in zip(
        generate_features(model, prompts_of(PROMPTS), 12), expected, strict=True
    ):
        assert ours.tolist() == theirs.tolist()
