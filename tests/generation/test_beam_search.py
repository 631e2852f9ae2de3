"""Beam search against that of transformers, on the same weights, and against trying everything."""

import itertools
import logging

import pytest
import torch
import transformers
from models import GPT2, a_model

from gptexp.generation.beam_search import beam_search
from gptexp.generation.generate import Sampling, generate
from gptexp.model.hf import convert

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
    stop = generate(model, PROMPTS[:1], 12, -1)[0][3]  # so that some answers end early
    auto = getattr(transformers, convert.save(model, tmp_path).auto_class)
    theirs = auto.from_pretrained(tmp_path)
    given = torch.tensor(PROMPTS)
    more = {"decoder_start_token_id": SEPARATOR} if model.encoder is not None else {}
    found = theirs.generate(
        given,
        attention_mask=torch.ones_like(given),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=12,
        length_penalty=length_penalty,
        do_sample=False,
        early_stopping=False,
        eos_token_id=stop,
        pad_token_id=stop,
        **more,
    )[:, 1 if more else given.shape[1] :].tolist()
    rows = [row[: row.index(stop)] if stop in row else row for row in found]
    sampling = Sampling(num_beams=num_beams, length_penalty=length_penalty)
    ours = beam_search(model, PROMPTS, 12, stop, sampling)
    assert [answer for answers in ours for answer in answers] == rows
    assert (
        len({len(row) for row in rows}) > 1 or length_penalty > 1
    )  # they do not all run to the end


def test_as_many_beams_as_answers_find_the_likeliest():
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


def test_until_ends_answers_of_beams():
    model = a_model()
    for answers in beam_search(
        model, PROMPTS, 12, -1, Sampling(num_beams=3), until=lambda row: len(row) == 4
    ):
        assert [len(answer) for answer in answers] == [4, 4, 4]
