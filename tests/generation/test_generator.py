import pytest
import torch
from models import EXPERTS, KINDS, PROMPTS, a_model, generate
from torch._dynamo.testing import CompileCounter

from gptexp.generation.cpu_decoder import CpuDecoder
from gptexp.generation.generator import Generator
from gptexp.generation.mbr import select_minimum_bayes_risk
from gptexp.generation.prompt import Prompt
from gptexp.model import SequenceLayout
from gptexp.sampling import Sampling

SAMPLED = Sampling(0.9, top_k=20, top_p=0.9, min_p=0.01, seed=3)


@torch.no_grad()
def recomputed(model, prompt, count):
    """The likeliest tokens, each from a pass over all tokens before it."""
    tokens_in = torch.tensor([prompt])
    length = torch.tensor([len(prompt)])
    memory = model.encode(tokens_in, length) if model.encoder is not None else None
    tokens = list(prompt if memory is None else prompt[-1:])
    for _ in range(count):
        hidden = model(torch.tensor([tokens]), SequenceLayout(prefix=length), memory=memory)
        tokens.append(int(model.head(hidden[0, -1]).argmax()))
    return tokens[-count:]


@pytest.mark.parametrize("has_cpu_decoder", [True, False])
@pytest.mark.parametrize("kind", [*KINDS, EXPERTS])
def test_cached_is_recomputed_and_batched_is_one_by_one(kind, has_cpu_decoder, monkeypatch):
    if not has_cpu_decoder:
        monkeypatch.setattr(CpuDecoder, "for_model", lambda *_: None)
    model = a_model(**kind)
    expected = [recomputed(model, prompt, 12) for prompt in PROMPTS]
    assert generate(model, PROMPTS, 12, -1) == expected
    assert [generate(model, [prompt], 12, -1)[0] for prompt in PROMPTS] == expected
    eos = expected[1][5]  # the batch shrinks where answers end
    ended = [row[: row.index(eos)] if eos in row else row for row in expected]
    assert generate(model, PROMPTS, 12, eos) == ended


@pytest.mark.parametrize(
    "sampling",
    [
        SAMPLED,
        Sampling(num_beams=3, no_repeat_ngram=2),
        Sampling(repetition_penalty=3.0),
        Sampling(0.9, mbr_samples=5),
        Sampling(0.9, mbr_samples=100),
    ],
)
@pytest.mark.parametrize("kind", [{}, {"arch": "prefix"}, {"arch": "encoder_decoder"}])
def test_an_answer_depends_on_its_prompt_and_seed_only(kind, sampling):
    model = a_model(**kind)
    together = generate(model, PROMPTS, 10, 0, sampling, seeds=[7, 8, 9])
    assert generate(model, PROMPTS[::-1], 10, 0, sampling, seeds=[9, 8, 7]) == together[::-1]
    assert [
        generate(model, [PROMPTS[i]], 10, 0, sampling, seeds=[7 + i])[0] for i in range(3)
    ] == together


def test_minimum_bayes_risk_selects_the_sample_that_is_most_similar_to_the_others():
    assert select_minimum_bayes_risk([[1, 2, 3], [4, 5], [2, 3, 9], [2, 3, 1, 8]]) == [1, 2, 3]
    assert select_minimum_bayes_risk([[], [7]]) == []
    assert select_minimum_bayes_risk([[7], [], []]) == []
    assert select_minimum_bayes_risk([[7], [], []], weights=[9, 1, 1]) == [7]
    assert select_minimum_bayes_risk([[7], [8], [8]], weights=[0, 0, 0]) == [8]
    model = a_model()
    samples = generate(
        model, [PROMPTS[0]] * 9, 10, -1, Sampling(0.9), seeds=Sampling(seed=7).seeds(9)
    )
    samples += generate(model, PROMPTS[:1], 10, -1)  # the greedy answer is a candidate, too
    sampling = Sampling(0.9, mbr_samples=9)
    assert generate(model, PROMPTS[:1], 10, -1, sampling, seeds=[7]) == [
        select_minimum_bayes_risk(samples)
    ]
    unlikely = min(samples, key=samples.count)
    weighed = Generator(model, eos=-1).generate(
        [Prompt(tuple(PROMPTS[0]))],
        10,
        sampling,
        seeds=[7],
        candidate_weight=lambda _, answer: float(answer == unlikely),
    )
    assert weighed == [unlikely] != [select_minimum_bayes_risk(samples)]


def test_the_batch_size_of_samples_changes_no_answer(monkeypatch):
    model, sampling = a_model(), Sampling(0.9, mbr_samples=5)
    expected = generate(model, PROMPTS, 10, -1, sampling)
    monkeypatch.setattr("gptexp.generation.generator.MAX_BATCH_ROWS", 3)
    assert generate(model, PROMPTS, 10, -1, sampling) == expected


def test_copies_of_a_prompt_get_different_samples():
    model = a_model()
    samples = generate(model, [PROMPTS[0]] * 4, 10, -1, SAMPLED)
    assert len({tuple(row) for row in samples}) == 4
    assert samples == generate(model, [PROMPTS[0]] * 4, 10, -1, SAMPLED)
    assert samples != generate(model, [PROMPTS[0]] * 4, 10, -1, Sampling(0.9, seed=4))


def test_a_stream_yields_the_same_tokens_step_by_step():
    model = a_model()
    answers = generate(model, PROMPTS, 10, -1)
    prompts = [Prompt(tuple(prompt)) for prompt in PROMPTS]
    steps = Generator(model, eos=-1).stream(prompts, 10)
    assert [list(row) for row in zip(*steps, strict=True)] == answers
    eos = answers[0][2]
    steps = Generator(model, eos).stream(prompts[:1], 10)
    assert list(steps) == [[token] for token in answers[0][: answers[0].index(eos)]] + [[None]]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
def test_the_mode_of_a_model_holds_only_while_a_stream_computes():
    model = a_model().train()
    model.build_block_mask = build = object()
    model.blocks[0].compile(backend=(counter := CompileCounter()))
    first, second = (Generator(model, eos=-1).stream([Prompt((5, 6))], 4) for _ in range(2))
    tokens = []
    for stream in (first, second, first, second, first, first, second, second):
        tokens.append(next(stream))
        assert model.training
        assert model.build_block_mask is build
    assert [tokens[i] for i in (0, 2, 4, 5)] == [tokens[i] for i in (1, 3, 6, 7)]
    assert next(first, None) is next(second, None) is None
    model.build_block_mask = None
    assert counter.frame_count == 0
    model(torch.tensor([[5, 6]]))
    assert counter.frame_count == 1  # no stream left compilation off


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(num_beams=2)])
def test_any_of_several_tokens_ends_an_answer(sampling):
    model = a_model()
    [answer] = generate(model, PROMPTS[:1], 10, -1)
    third, fifth = answer[2], answer[4]
    ended = answer[: min(answer.index(third), answer.index(fifth))]
    if sampling.num_beams == 1:
        assert generate(model, PROMPTS[:1], 10, [fifth, third]) == [ended]
    rows = generate(model, PROMPTS, 10, [fifth, third], sampling)
    assert not {third, fifth}.intersection(*rows)
    assert rows == generate(model, PROMPTS, 10, (third, fifth), sampling)


@pytest.mark.parametrize("sampling", [Sampling(num_beams=2), Sampling(0.5, mbr_samples=2)])
def test_a_stream_of_answers_that_are_known_only_at_the_end_is_refused(sampling):
    with pytest.raises(ValueError, match="num_beams and mbr_samples must be 1"):
        next(Generator(a_model(), eos=-1).stream([Prompt((1,))], 5, sampling))


def test_stopping_criteria_end_an_answer_and_generation_leaves_the_mode_alone():
    model = a_model().train()
    free = generate(model, PROMPTS, 10, -1)
    ended = generate(
        model, PROMPTS, 10, stopping_criteria=lambda row: row[-1] == free[0][4] or len(row) == 7
    )
    assert ended[0] == free[0][: free[0].index(free[0][4]) + 1]
    assert all(
        len(row) <= 7 and row == answer[: len(row)] for row, answer in zip(ended, free, strict=True)
    )
    assert model.training


def test_a_long_prompt_keeps_its_end_and_no_prompts_get_no_answers():
    model, long = a_model(), list(range(1, 40))
    assert generate(model, [], 4, -1) == []
    assert generate(model, [long], 4, -1) == generate(model, [long[-20:]], 4, -1)


def test_prompts_and_options_that_cannot_work_are_refused():
    model = a_model()
    for prompts, max_new_tokens, message in [
        ([[]], 5, "no tokens"),
        ([[1]], 0, "max_new_tokens=0: must be between 1 and 23"),
        ([[1]], 24, "max_new_tokens=24"),
        ([[1, 50]], 5, "token 50 of a prompt: the vocabulary has 0 to 49"),
    ]:
        with pytest.raises(ValueError, match=message):
            generate(model, prompts, max_new_tokens, 0)
    with pytest.raises(ValueError, match="arch=encoder: does not generate"):
        generate(a_model(arch="encoder"), [[1]], 5, 0)
    with pytest.raises(ValueError, match="3 answers to one prompt: num_beams=2"):
        generate(model, [[1]] * 3, 5, 0, Sampling(num_beams=2))
    with pytest.raises(ValueError, match="weights=int4: must be one of float32, bfloat16, auto"):
        generate(model, [[1]], 5, 0, weights="int4")
