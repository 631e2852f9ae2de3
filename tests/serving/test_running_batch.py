"""Answers that join and leave a running batch are those that each request would get alone."""

import random

import pytest
from models import EXPERTS, KINDS, a_model

from gptexp.generation import gpu_decoder
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import AnswerText
from gptexp.sampling import Sampling
from gptexp.serving.running_batch import Answer, RunningBatch

EOS = frozenset({3})
OPTIONS = (
    Sampling(),
    Sampling(temperature=1.0, top_k=5),
    Sampling(temperature=0.8, repetition_penalty=1.5, no_repeat_ngram=2),
)


def some_answers(count: int) -> list[Answer]:
    rng = random.Random(0)
    return [
        Answer(
            Prompt(tuple(rng.randrange(4, 50) for _ in range(rng.randrange(1, 15)))),
            rng.randrange(1, 12),
            rng.choice(OPTIONS),
            seed,
            AnswerText(str),
            deliver=lambda _: None,
        )
        for seed in range(count)
    ]


@pytest.mark.parametrize(
    ("kind", "device"),  # on which the fast decoders are used
    [*((kind, "cpu") for kind in [*KINDS, EXPERTS]), *((kind, "cuda") for kind in KINDS[::2])],
)
def test_an_answer_does_not_depend_on_those_that_join_and_leave(kind, device, monkeypatch):
    model, answers = a_model(**kind), some_answers(9)
    alone = [
        Generator(model, EOS).generate(
            [answer.prompt], answer.max_new_tokens, answer.sampling, seeds=[answer.seed]
        )[0]
        for answer in answers
    ]
    if device == "cuda":
        monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")
    batch, waiting = RunningBatch(model, EOS, "float32", max_rows=4), list(answers)
    while waiting or batch.answers:
        joining: list[Answer] = []
        while waiting and len(joining) < 2 and batch.has_room(waiting[0], joining):
            joining.append(waiting.pop(0))
        if joining:
            batch.add(joining)
        batch.step()
    assert [answer.text.tokens for answer in answers] == alone


def test_a_cancelled_answer_leaves_before_the_next_step():
    batch, answers = RunningBatch(a_model(), frozenset(), "float32", 4), some_answers(3)
    batch.add(answers)
    answers[1].is_cancelled = True
    batch.step()
    assert answers[1] not in batch.answers
    assert not answers[1].text.tokens
    assert len(answers[0].text.tokens) == 1


def test_a_step_is_no_larger_than_its_limit():
    batch, answers = RunningBatch(a_model(), EOS, "float32", 4), some_answers(5)
    assert batch.has_room(answers[3], answers[:3])
    assert not batch.has_room(answers[4], answers[:4])
