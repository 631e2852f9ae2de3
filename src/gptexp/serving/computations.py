"""Computations besides the running batch: they take their turn in the worker's thread between two of its steps."""

import io
from collections.abc import Callable
from typing import Any

import torch

from gptexp.errors import UserError
from gptexp.generation.decode_state import DecodeState, generation_mode
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import AnswerText, Decode, find_stop
from gptexp.sampling import Sampling
from gptexp.serving.parameters import Parameters
from gptexp.serving.questions import Question
from gptexp.serving.request_error import RequestError
from gptexp.serving.responses import Choice
from gptexp.serving.running_batch import TokenScore, cut_prompt, score_token
from gptexp.serving.served_model import ServedModel
from gptexp.tasks.answerer import GenerateText


class SearchCancelledError(Exception):
    """Nobody waits for the answers of this search."""


def search(
    model: ServedModel,
    question: Question,
    parameters: Parameters,
    sampling: Sampling,
    is_cancelled: Callable[[], bool],
) -> list[Choice]:
    """Answer by beam search or minimum Bayes risk decoding.

    Raises:
        SearchCancelledError: `is_cancelled` has returned True.
    """
    assert isinstance(model.answerer, GenerateText)
    stops = (*parameters.stop, *question.stop)

    def has_ended(tokens: list[int]) -> bool:
        if is_cancelled():
            raise SearchCancelledError
        return bool(stops) and find_stop(question.decode(tokens), stops) is not None

    length = model.max_new_tokens(parameters.max_tokens)
    rows = model.generator.generate(
        [question.prompt] * parameters.count,
        length,
        sampling,
        stopping_criteria=has_ended,
        candidate_weight=model.answerer.candidate_weight(model.tokenizer),
    )
    answers = []
    for row in rows:
        text = question.decode(row)
        end = find_stop(text, stops)
        reason = "length" if end is None and len(row) == length else "stop"
        scores: list[TokenScore] = []
        if parameters.top_tokens is not None:
            prompt = cut_prompt(model.config, question.prompt, length)
            scores = _score_answer(model, prompt, question.decode, row, parameters.top_tokens)
        answers.append(Choice(text[:end], scores, len(row), reason))
    return answers


@torch.inference_mode()
def _score_answer(
    model: ServedModel, prompt: Prompt, decode: Decode, tokens: list[int], top: int
) -> list[TokenScore]:
    """Score the tokens of an answer that is known."""
    text, scores = AnswerText(decode), []
    with generation_mode(model.transformer):
        state = DecodeState(model.transformer, [prompt], max(1, len(tokens)))
        for token in tokens:
            scores.append(score_token(state.logits[0], token, top, text))
            text.add(token)
            if len(scores) < len(tokens):
                state.step(torch.tensor([token], device=state.logits.device))
    return scores


@torch.inference_mode()
def score_prompt(model: ServedModel, prompt: Prompt, top: int) -> list[TokenScore]:
    """Score the tokens of a prompt; the first has no probability."""
    text = AnswerText(model.tokenizer.decode)
    scores = [TokenScore(prompt.tokens[0], None)]
    text.add(prompt.tokens[0])
    with generation_mode(model.transformer):
        tokens = torch.tensor([prompt.tokens], device=model.transformer.embedding.weight.device)
        states = model.transformer(tokens)[0]
        for state, token in zip(states, prompt.tokens[1:], strict=False):
            scores.append(score_token(model.transformer.logits(state[None])[0], token, top, text))
            text.add(token)
    return scores


@torch.inference_mode()
def answer_whole(model: ServedModel, question: Question) -> Any:
    """Answer by a task that does not choose tokens."""
    [output] = model.answerer.answer(model.transformer, model.tokenizer, [question.input])
    return output


def speak(model: ServedModel, text: str, voice: str | None, suffix: str) -> bytes:
    """Return the audio of a spoken text as a file of this format: wav or flac.

    Raises:
        RequestError: the model speaks no texts, or not this one.
    """
    if model.input_kind != "speech":
        raise RequestError(f"{model.name}: does not speak; its task is {model.kind}")
    import soundfile

    from gptexp.tasks.speech.audio import RATE
    from gptexp.tasks.speech.layout import VoiceTextFrames

    assert isinstance(model.layout, VoiceTextFrames)
    try:
        line = model.layout.voice_text(text, voice, model.tokenizer)
        [audio] = model.answerer.answer(model.transformer, model.tokenizer, [line])
    except (UserError, ValueError) as error:
        raise RequestError(str(error), "input") from None
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.samples, RATE, format=suffix.upper())
    return buffer.getvalue()
