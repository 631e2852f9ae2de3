"""Questions: the inputs of requests, as prompts of the task's layout, and the options of their answers."""

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gptexp.data.conversation import Conversation, JsonObject
from gptexp.errors import UserError
from gptexp.generation.decode_state import prompt_room
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import AnswerText, Decode, decode_after
from gptexp.sampling import Sampling
from gptexp.serving.chat import PLAIN_STOPS, RequestMessage, format_plain
from gptexp.serving.parameters import Parameters
from gptexp.serving.request_error import RequestError
from gptexp.serving.running_batch import Answer, Piece, cut_prompt
from gptexp.serving.served_model import ServedModel
from gptexp.tasks.answerer import Answerer, GenerateText
from gptexp.tasks.chat_session import chat_answerer
from gptexp.tasks.layout import Layout
from gptexp.tasks.unread_input import describe_unread_input

RANDOM_SEEDS = 2**31  # of requests without a seed
MAX_CANDIDATES = 128  # answers that a search compares for one prompt
MAX_CHARACTERS = (
    100  # of a text, for each token of the context: more are refused before they are encoded
)


@dataclass(frozen=True)
class Question:
    """An input of the task, ready for the model."""

    input: Any  # of the task; None: token numbers
    prompt: Prompt
    text: str  # as it is echoed
    decode: Decode
    stop: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def ask_text(model: ServedModel, text: str, max_tokens: int | None = None) -> Question:
    """Make a question of a text, as `gptexp generate` does.

    Raises:
        RequestError: the task cannot answer it.
    """
    if model.input_kind != "text":
        raise _wrong_endpoint(model)
    if not text.strip():
        raise RequestError("prompt: is empty", "prompt")
    check_size(model, text)
    return _ask(model, model.answerer, model.layout, text, text, max_tokens)


def check_size(model: ServedModel, prompt: Sequence[Any], name: str = "prompt") -> None:
    """Check that a text or its tokens are not so long that to encode them would keep other requests waiting.

    Raises:
        RequestError: they are.
    """
    limit = MAX_CHARACTERS * model.config.context
    if len(prompt) > limit:
        unit = "characters" if isinstance(prompt, str) else "tokens"
        raise RequestError(
            f"{name}: has {len(prompt):,} {unit}; at most {limit:,} are accepted, "
            f"and the model's context is {model.config.context:,} tokens",
            name,
            code="context_length_exceeded",
        )


def ask_image(model: ServedModel, data: bytes, max_tokens: int | None = None) -> Question:
    """Make a question of the bytes of an image file. Names of files are never read.

    Raises:
        RequestError: it is not an image, or the task answers texts.
    """
    if model.input_kind != "image":
        raise RequestError(f"{model.name}: answers no images; its task is {model.kind}")
    return _ask(model, model.answerer, model.layout, io.BytesIO(data), "", max_tokens)


def _ask(
    model: ServedModel,
    answerer: Answerer,
    layout: Layout,
    raw: Any,
    text: str,
    max_tokens: int | None,
) -> Question:
    tokenizer = model.tokenizer
    try:
        parsed = layout.parse_prompt(raw, tokenizer)
        unread = describe_unread_input(
            layout, answerer, parsed, tokenizer, model.config, max_tokens or None
        )
        if not isinstance(answerer, GenerateText):
            tokens = tokenizer.encode(text)
            return Question(parsed, Prompt(tuple(tokens)), text, tokenizer.decode)
        prompt = layout.prompt(parsed, tokenizer)
    except (UserError, ValueError) as error:
        raise RequestError(str(error)) from None
    warnings = (f"the model does not read the prompt as it is written: {unread}",)
    read = cut_prompt(model.config, prompt, model.max_new_tokens(max_tokens))
    decode = answerer.decoder(read, tokenizer)
    return Question(parsed, prompt, text, decode, warnings=warnings if unread else ())


def ask_tokens(
    model: ServedModel, tokens: Sequence[int], max_tokens: int | None = None
) -> Question:
    """Make a question of token numbers, which the model continues as they are.

    Raises:
        RequestError: there are none, or one is not in the vocabulary.
    """
    size = model.config.vocab_size
    if model.input_kind != "text" or not model.generates_text:
        raise RequestError(f"{model.name}: answers no token numbers; its task is {model.kind}")
    if not tokens:
        raise RequestError("prompt: is empty", "prompt")
    check_size(model, tokens)
    if outside := [token for token in tokens if not 0 <= token < size]:
        raise RequestError(
            f"prompt: token {outside[0]} is not in the vocabulary, 0 to {size - 1}", "prompt"
        )
    decode: Decode = model.tokenizer.decode
    text = decode(list(tokens))
    warnings = []
    room = prompt_room(model.config, model.max_new_tokens(max_tokens))
    if model.layout.stream:
        decode = decode_after(decode, tokens[-room:])
    if 0 < room < len(tokens):
        warnings.append(f"the first {len(tokens) - room} tokens of the prompt are not read")
    return Question(None, Prompt(tuple(tokens)), text, decode, warnings=tuple(warnings))


def ask_chat(
    model: ServedModel,
    messages: list[RequestMessage],
    tools: tuple[JsonObject, ...],
    max_tokens: int | None,
) -> Question:
    """Make a question of a conversation: by a chat format, as a plain text, or of its last message.

    Raises:
        RequestError: the task cannot answer it.
    """
    last = messages[-1]
    if last.role == "assistant":
        raise RequestError("messages: the last one must be of the user", "messages")
    if model.input_kind == "image":
        if last.image is None:
            raise RequestError("messages: the last one has no image", "messages")
        question = ask_image(model, last.image, max_tokens)
        texts = [message.content for message in messages if message.content]
        note = "the model reads the image alone"
        return replace(question, warnings=(note,)) if texts else question
    if tools and not model.has_chat_format:
        raise RequestError(f"tools: {model.name} has no chat template to write them", "tools")
    if any(message.image for message in messages):
        raise RequestError(f"{model.name}: answers no images; its task is {model.kind}")
    if model.has_chat_format:
        return _ask_conversation(model, Conversation(tuple(messages), tools), max_tokens)
    if model.input_kind == "text" and model.layout.stream and model.generates_text:
        check_size(model, format_plain(messages), "messages")
        question = ask_text(model, format_plain(messages), max_tokens)
        decode = question.decode
        return replace(question, decode=lambda tokens: decode(tokens).lstrip(), stop=PLAIN_STOPS)
    question = ask_text(model, last.content, max_tokens)
    if len(messages) > 1:
        note = f"task={model.kind} reads the last message alone"
        question = replace(question, warnings=(*question.warnings, note))
    return question


def _ask_conversation(
    model: ServedModel, conversation: Conversation, max_tokens: int | None
) -> Question:
    """Make a question of a conversation for a model with a chat format, as GPT.chat does."""
    text = format_plain(conversation.messages)
    check_size(model, text, "messages")
    length = model.max_new_tokens(max_tokens)
    answerer = chat_answerer(model.task, model.tokenizer, model.config, length)
    return _ask(model, answerer, answerer.layout, conversation, text, length)


def _wrong_endpoint(model: ServedModel) -> RequestError:
    advice = {
        "image": "send an image to /v1/captions, or in a message to /v1/chat/completions",
        "speech": "send a text to /v1/audio/speech",
    }
    return RequestError(f"{model.name}: its task is {model.kind}; {advice[model.input_kind]}")


def choose_sampling(model: ServedModel, parameters: Parameters) -> Sampling:
    """Return the options of a request over those of the task; without a seed, one is drawn.

    Raises:
        RequestError: options conflict, or a search would compare too many answers.
    """
    assert isinstance(model.answerer, GenerateText)
    seed = random.randrange(RANDOM_SEEDS) if parameters.seed is None else parameters.seed
    overrides: dict[str, Any] = dict(parameters.sampling)
    try:
        sampling = model.answerer.sampling.with_overrides(parameters.count, **overrides, seed=seed)
    except ValueError as error:
        raise RequestError(str(error)) from None
    if sampling.num_beams > MAX_CANDIDATES:
        raise RequestError(
            f"num_beams={sampling.num_beams}: must be at most {MAX_CANDIDATES}", "num_beams"
        )
    candidates = parameters.count * (sampling.mbr_samples + 1)
    if sampling.mbr_samples > 1 and candidates > MAX_CANDIDATES:
        raise RequestError(
            f"mbr_samples={sampling.mbr_samples} with n={parameters.count}: compares {candidates} answers; "
            f"n x (mbr_samples + 1) must be at most {MAX_CANDIDATES}",
            "mbr_samples",
        )
    return sampling


def check_length(model: ServedModel, question: Question, parameters: Parameters) -> None:
    """Check that an answer of the requested length fits into the context.

    Raises:
        RequestError: it does not.
    """
    length, limit = model.max_new_tokens(parameters.max_tokens), model.config.context - 1
    smallest = 0 if parameters.echoes else 1
    if not smallest <= length <= limit:
        raise RequestError(
            f"max_tokens={length}: must be from {smallest} to {limit}; the model's context is {limit + 1} tokens",
            "max_tokens",
        )
    room = prompt_room(model.config, length)
    if question.prompt.features is not None and len(question.prompt) > room:
        raise RequestError(
            f"max_tokens={length}: the image takes {len(question.prompt)} tokens, and the model's context is "
            f"{limit + 1}",
            "max_tokens",
        )
    if parameters.echoes and parameters.top_tokens is not None:
        if model.config.arch != "decoder":
            raise RequestError(
                f"logprobs with echo: model.arch={model.config.arch} predicts no tokens of its prompt",
                "echo",
            )
        if len(question.prompt) > room:
            raise RequestError(
                f"prompt: has {len(question.prompt)} tokens, and {room} fit beside max_tokens={length}",
                "prompt",
                code="context_length_exceeded",
            )


def make_answer(
    model: ServedModel,
    question: Question,
    parameters: Parameters,
    sampling: Sampling,
    seed: int,
    deliver: Callable[[Piece | Exception], None],
) -> Answer:
    """Return the answer that the worker fills, piece by piece."""
    text = AnswerText(question.decode, (*parameters.stop, *question.stop))
    length = model.max_new_tokens(parameters.max_tokens)
    return Answer(question.prompt, length, sampling, seed, text, deliver, parameters.top_tokens)
