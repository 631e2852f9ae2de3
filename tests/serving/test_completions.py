"""Completions, by OpenAI's own client: the answers of `generate`, whole or in a stream, alone or among others."""

import math
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch
from servers import BYTES, a_text_model, client_of, gated_steps, running, serve_text, wait_for

from gptexp.generation.cpu_decoder import CpuDecoder
from gptexp.generation.generator import Generator
from gptexp.serving import computations, exchange, running_batch

PROMPT = "Return the"
OPTIONS = [
    {"temperature": 0},
    {"temperature": 1, "seed": 3},
    {"seed": 7, "top_p": 0.9, "top_k": 12},
    {"temperature": 0, "num_beams": 3},
    {"mbr_samples": 4, "seed": 2},
]
# Parameters that OpenAI's client knows; the others travel in `extra_body`.
KNOWN = {"temperature", "seed", "top_p", "n", "stop", "max_tokens", "stream", "logprobs", "echo"}


@pytest.fixture(scope="module")
def server():
    with running(serve_text()) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with client_of(server) as client:
        yield client


def generate(prompt, count, max_tokens, **options):
    """The answers of `gptexp generate`."""
    served = serve_text()
    answerer = served.task.answerer
    return answerer.generate(
        Generator(served.transformer, BYTES.eos_ids),
        BYTES,
        served.task.layout.prompt(prompt, BYTES),
        count,
        max_tokens,
        answerer.sampling.with_overrides(count, **options),
    )


def complete(client, prompt=PROMPT, **options):
    known = {name: value for name, value in options.items() if name in KNOWN}
    others = {name: value for name, value in options.items() if name not in KNOWN}
    return client.completions.create(
        model="tiny", prompt=prompt, **{"max_tokens": 24, **known}, extra_body=others
    )


def texts(response):
    return [choice.text for choice in response.choices]


def stream_texts(events):
    whole, reasons = {}, {}
    for event in events:
        for choice in event.choices:
            assert choice.index not in reasons
            assert not choice.text.endswith("\ufffd") or choice.finish_reason
            whole[choice.index] = whole.get(choice.index, "") + choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert whole.keys() == reasons.keys()
    return [text for _, text in sorted(whole.items())]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("count", [1, 3])
def test_answers_are_those_of_generate(client, options, count):
    expected = generate(PROMPT, count, 24, **options)
    response = complete(client, n=count, **options)
    assert texts(response) == expected
    assert stream_texts(complete(client, n=count, stream=True, **options)) == expected
    assert response.usage.prompt_tokens == len(BYTES.encode(PROMPT))
    assert response.usage.completion_tokens >= max(map(len, expected))


def test_prompts_of_one_request_are_answered_one_by_one(client):
    alone = [texts(complete(client, prompt, seed=5)) for prompt in ("the", "a tree")]
    assert texts(complete(client, ["the", "a tree"], seed=5)) == alone[0] + alone[1]
    tokens = [BYTES.encode(prompt) for prompt in ("the", "a tree")]
    assert texts(complete(client, tokens, seed=5)) == alone[0] + alone[1]
    assert texts(complete(client, tokens[1], seed=5)) == alone[1]


def test_a_text_ends_before_its_stop_string(client):
    whole = texts(complete(client, temperature=0))[0]
    for stop in (whole[3:5], whole[9:11]):
        options = {"temperature": 0, "stop": ["never", stop]}
        response = complete(client, **options)
        assert texts(response) == [whole[: whole.index(stop)]]
        assert response.choices[0].finish_reason == "stop"
        assert stream_texts(complete(client, stream=True, **options)) == texts(response)
    assert complete(client, temperature=0).choices[0].finish_reason == "length"


def test_an_answer_without_a_seed_names_the_one_that_repeats_it(client):
    first, second = complete(client), complete(client)
    assert texts(first) != texts(second)
    assert texts(complete(client, seed=first.seed)) == texts(first)


def test_log_probabilities_are_those_of_the_model(client):
    response = complete(client, temperature=0, logprobs=3, echo=True, max_tokens=6)
    [choice] = response.choices
    scores = choice.logprobs
    tokens = BYTES.encode(choice.text)
    with torch.no_grad():
        model = a_text_model()
        expected = model.logits(model(torch.tensor([tokens])))[0].log_softmax(dim=-1)
    assert choice.text.startswith(PROMPT)
    assert "".join(scores.tokens) == choice.text
    assert scores.text_offset == list(range(len(choice.text)))
    assert scores.token_logprobs[0] is None
    right = expected[range(len(tokens) - 1), tokens[1:]].tolist()
    assert scores.token_logprobs[1:] == pytest.approx(right, abs=1e-4)
    for top, row in zip(scores.top_logprobs[1:], expected, strict=False):
        assert sorted(top.values()) == pytest.approx(sorted(row.topk(3).values.tolist()), abs=1e-4)


def test_a_prompt_can_be_scored_without_an_answer(client):
    [choice] = complete(client, max_tokens=0, echo=True, logprobs=0).choices
    assert choice.text == PROMPT
    assert len(choice.logprobs.token_logprobs) == len(PROMPT)
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])


def test_searched_answers_have_log_probabilities_too(client):
    searched = complete(client, temperature=0, num_beams=2, logprobs=1).choices[0]
    scores = searched.logprobs
    assert len(scores.tokens) == len(scores.token_logprobs) == 24
    greedy = complete(client, temperature=0, logprobs=1).choices[0].logprobs
    assert sum(scores.token_logprobs) >= sum(greedy.token_logprobs) - 1e-3
    assert math.isfinite(sum(scores.token_logprobs))


def test_requests_at_once_get_the_answers_that_they_get_alone(client):
    wishes = [
        {"prompt": "the " * number, "seed": number, "max_tokens": 5 + number, **options}
        for number, options in enumerate([*OPTIONS[:3], *OPTIONS[:3], *OPTIONS[:3]], 1)
    ]
    alone = [texts(complete(client, **wish)) for wish in wishes]
    with ThreadPoolExecutor(len(wishes)) as pool:
        together = list(pool.map(lambda wish: texts(complete(client, **wish)), wishes))
    assert together == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature=-1: must be at least 0"),
        ({"temperature": "hot"}, "temperature='hot': must be at least 0"),
        ({"temperature": 10**400}, "must be at least 0 and at most 1,000,000"),
        ({"repetition_penalty": 1e308}, "repetition_penalty=1e+308: must be from 0.001 to 1,000"),
        ({"num_beams": 2, "length_penalty": -1e308}, "must be from -10 to 10"),
        ({"temperature": 0, "num_beams": 300}, "num_beams=300: must be at most 128"),
        ({"mbr_samples": 50, "n": 3}, "compares 153 answers; n x (mbr_samples + 1) must be at"),
        ({"stream": 1.0}, "stream=1.0: must be true or false"),
        ({"stop": "a" * 1001}, "stop: a text has 1,001 characters; at most 1,000"),
        ({"prompt": "a" * 6401}, "prompt: has 6,401 characters; at most 6,400 are accepted"),
        ({"prompt": [65] * 6401}, "prompt: has 6,401 tokens; at most 6,400 are accepted"),
        ({"prompt": [[65]] * 257}, "prompt: 257 answers in one request; at most 256"),
        ({"top_k": 1.5}, "top_k=1.5: must be a whole number, at least 0"),
        ({"top_q": 1}, "top_q: there is no such parameter. Did you mean 'top_p'?"),
        ({"presence_penalty": 1}, "presence_penalty: is not supported; leave it out"),
        ({"max_tokens": 64}, "max_tokens=64: must be from 1 to 63; the model's context is 64"),
        ({"max_tokens": 0}, "max_tokens=0: must be from 1"),
        ({"n": 0}, "n=0: must be a whole number, at least 1"),
        ({"n": 1000}, "n: 1000 answers in one request; at most 256"),
        ({"best_of": 3}, "best_of=3: must be n=1"),
        ({"stop": ["a", ""]}, "stop=['a', '']: must be a text, or a list of up to 16"),
        ({"logprobs": 21}, "logprobs=21: must be a whole number, from 0 to 20"),
        ({"prompt": " "}, "prompt: is empty"),
        ({"prompt": [260]}, "prompt: token 260 is not in the vocabulary, 0 to 259"),
        ({"prompt": [["a"]]}, "prompt: must be a text, a list of texts"),
        ({"prompt": {}}, "prompt: must be a text, a list of texts"),
        ({"num_beams": 2, "n": 3}, "3 answers to one prompt: num_beams=2"),
        ({"temperature": 1, "num_beams": 2}, "beam search does not sample"),
    ],
)
def test_a_mistake_is_answered_in_the_shape_of_openai(client, options, message):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, **options)
    assert message in caught.value.body["message"]
    assert caught.value.body["type"] == "invalid_request_error"


def test_an_answer_that_fails_leaves_the_others_of_its_batch_alone(server, client, monkeypatch):
    plain = running_batch.sample_next_token
    options = {"max_tokens": 8, "temperature": 0}

    def fail_for_one(scores, sampling, uniform):
        if sampling.temperature == 0.5:
            raise RuntimeError("no token")
        return plain(scores, sampling, uniform)

    monkeypatch.setattr(running_batch, "sample_next_token", fail_for_one)
    with ThreadPoolExecutor(2) as pool, gated_steps(server):
        good = pool.submit(complete, client, **options)
        bad = pool.submit(complete, client, max_tokens=8, temperature=0.5)
        wait_for(lambda: server.worker.waiting + len(server.worker.batch.answers) == 2)
    with pytest.raises(openai.InternalServerError, match="no token"):
        bad.result()
    assert texts(good.result()) == texts(complete(client, **options))
    assert texts(complete(client, max_tokens=8, temperature=1e-45)) == texts(good.result())


def test_all_answers_of_a_step_that_fails_end(server, client, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    with (
        ThreadPoolExecutor(2) as pool,
        gated_steps(server) as gate,
        monkeypatch.context() as patched,
    ):
        patched.setattr(CpuDecoder, "step", fail)
        answers = [pool.submit(complete, client, max_tokens=length) for length in (1, 8)]
        wait_for(lambda: server.worker.waiting + len(server.worker.batch.answers) == 2)
        gate.release(10)
        for answer in answers:
            with pytest.raises(openai.InternalServerError, match="out of memory"):
                answer.result(timeout=20)
    assert texts(complete(client, max_tokens=2))


def test_a_search_ends_when_its_client_leaves(client, monkeypatch):
    results = []

    def search(model, *arguments):
        wait_for(arguments[-1])  # whether it is cancelled
        with pytest.raises(computations.SearchCancelledError):
            results.append(computations.search(model, *arguments))
        results.append("ended")

    monkeypatch.setattr(exchange, "search", search)
    for is_stream in (False, True):
        with pytest.raises(openai.APITimeoutError):
            complete(client.with_options(timeout=0.5), mbr_samples=2, stream=is_stream)
    assert texts(complete(client, max_tokens=2))
    assert results == ["ended"] * 2


def test_another_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="use tiny, or leave it out"):
        client.completions.create(model="gpt-4", prompt="a")


def test_a_prompt_that_is_cut_is_answered_with_a_warning(client):
    response = complete(client, "the tree " * 20, temperature=0)
    assert "its beginning is cut by" in response.warnings[0]
    assert response.choices[0].text


def test_a_closed_connection_ends_its_answer(server, client):
    batch = server.worker.batch
    with gated_steps(server) as gate:
        with complete(client, stream=True, max_tokens=60, temperature=0) as stream:
            gate.release(3)
            next(iter(stream))
            [streamed] = batch.answers
        wait_for(lambda: streamed.is_cancelled)
        with pytest.raises(openai.APITimeoutError):
            complete(client.with_options(timeout=1.5), max_tokens=60)
        assert server.worker.waiting == 1
        gate.release(2)
        wait_for(lambda: not server.worker.waiting and not batch.answers)
    assert 0 < len(streamed.text.tokens) < 60


def test_requests_beyond_the_queue_are_refused_and_the_others_answered():
    with (
        running(serve_text(), max_batch=1, max_waiting=1) as server,
        client_of(server) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        with gated_steps(server):
            first = pool.submit(complete, client, max_tokens=8)
            wait_for(lambda: server.worker.batch.answers)
            second = pool.submit(complete, client, max_tokens=8)
            wait_for(lambda: server.worker.waiting)
            with pytest.raises(openai.RateLimitError, match="1 answers wait already"):
                complete(client)
        assert texts(first.result())
        assert texts(second.result())
        assert texts(complete(client, max_tokens=2))
