"""Beam search against that of transformers on the same weights, and against exhaustive search."""

import itertools
import logging

import pytest
import torch
import transformers
from models import GPT2, a_model, generate

from gptexp.model.hf import convert
from gptexp.sampling import Sampling

PROMPTS = [[5, 6, 7, 9], [8, 9, 3, 9], [11, 12, 13, 9]]
SEPARATOR = 9
PEGASUS = {**GPT2, "arch": "encoder_decoder", "position": "sinusoidal", "norm_eps": 1e-5}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("kind", [{}, GPT2, PEGASUS], ids=["qwen3", "gpt2", "pegasus"])
def test_the_answers_are_those_of_transformers(kind, num_beams, length_penalty, tmp_path):
    model = a_model(**kind)
    eos = generate(model, PROMPTS[:1], 12, -1)[0][3]  # so that some answers end early
    auto = getattr(transformers, convert.save(model, tmp_path).auto_class)
    theirs = auto.from_pretrained(tmp_path)
    inputs = torch.tensor(PROMPTS)
    more = {"decoder_start_token_id": SEPARATOR} if model.encoder is not None else {}
    outputs = theirs.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=12,
        length_penalty=length_penalty,
        do_sample=False,
        early_stopping=False,
        eos_token_id=eos,
        pad_token_id=eos,
        **more,
    )[:, 1 if more else inputs.shape[1] :].tolist()
    rows = [row[: row.index(eos)] if eos in row else row for row in outputs]
    sampling = Sampling(num_beams=num_beams, length_penalty=length_penalty)
    copies = [prompt for prompt in PROMPTS for _ in range(num_beams)]
    assert generate(model, copies, 12, eos, sampling) == rows
    assert (
        len({len(row) for row in rows}) > 1 or length_penalty > 1
    )  # they do not all run to the end


def test_as_many_beams_as_answers_find_the_most_likely():
    model = a_model(vocab_size=5)
    [prompt] = [[1, 2]]
    likelihoods = {}
    for answer in itertools.product(range(5), repeat=3):
        with torch.no_grad():
            logits = model.head(model(torch.tensor([[*prompt, *answer]])))[0].log_softmax(dim=-1)
        likelihoods[answer] = sum(float(logits[1 + i, token]) for i, token in enumerate(answer))
    best = sorted(likelihoods, key=likelihoods.get, reverse=True)[:4]
    assert generate(model, [prompt] * 4, 3, -1, Sampling(num_beams=25)) == [
        list(answer) for answer in best
    ]


def test_stopping_criteria_end_beams():
    answers = generate(
        a_model(),
        PROMPTS * 3,
        12,
        -1,
        Sampling(num_beams=3),
        stopping_criteria=lambda t: len(t) == 4,
    )
    assert [len(answer) for answer in answers] == [4] * 9


def test_copies_of_a_prompt_get_the_best_answers_wherever_they_stand():
    model, sampling = a_model(), Sampling(num_beams=3)
    first, second, *_ = PROMPTS
    [one, two] = generate(model, [first, first], 8, -1, sampling)
    assert one != two
    assert generate(model, [first, second, first], 8, -1, sampling)[::2] == [one, two]
