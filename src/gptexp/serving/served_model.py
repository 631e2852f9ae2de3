"""A loaded model with its task: from the inputs of requests to prompts, and from the worker's results to answers."""

import io
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from gptexp.checkpoints.find_weights import PretrainedFolder
from gptexp.checkpoints.load_model import load, load_task_config
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import pick_device
from gptexp.errors import UserError
from gptexp.generation.decode_state import DecodeState, generation_mode, prompt_room
from gptexp.generation.generator import Generator
from gptexp.generation.gpu_decoder import uses_bfloat16
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import AnswerText, Decode, decode_after, find_stop
from gptexp.model import Transformer
from gptexp.runs.run_folder import RunFolder
from gptexp.sampling import Sampling
from gptexp.serving.chat import PLAIN_STOPS, ChatTemplate, Message, format_plain
from gptexp.serving.parameters import Parameters
from gptexp.serving.request_error import RequestError
from gptexp.serving.responses import Choice
from gptexp.serving.running_batch import Answer, Piece, TokenScore, cut_prompt, score_token
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.task import Task, make_task
from gptexp.tasks.unread_input import describe_unread_input

RANDOM_SEEDS = 2**31  # of requests without a seed


@dataclass(frozen=True)
class Question:
    """An input of the task, ready for the model."""

    input: Any  # of the task; None: token numbers
    prompt: Prompt
    text: str  # as it is echoed
    decode: Decode
    stop: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ServedModel:
    """A model, on the device that it computes on, with the task that it was trained for.

    Args:
        weights: their format: see Generator.
        template: of conversations; None: docs/serving.md says what becomes of them.
        example: an input to try.

    Raises:
        UserError: the task reads inputs that requests cannot hold.
    """

    def __init__(
        self,
        name: str,
        model: Transformer,
        tokenizer: Tokenizer,
        task: Task,
        weights: str = "float32",
        template: ChatTemplate | None = None,
        example: str | None = None,
    ) -> None:
        self.name, self.model, self.tokenizer, self.task = name, model, tokenizer, task
        self.layout, self.answerer = task.layout, task.answerer
        self.weights, self.template, self.example = weights, template, example
        self.created = int(time.time())
        self._generator: Generator | None = None
        if self.input_kind not in ("text", "image", "speech"):
            raise UserError(
                f"{name}: its task={self.kind} reads {self.input_kind}, which serve cannot receive; "
                f"it answers texts and images, and speaks texts"
            )

    @classmethod
    def load(cls, source: RunFolder | PretrainedFolder, weights: str) -> Self:
        """Load the model of a run or of a folder.

        Raises:
            UserError: there are no weights, they are damaged, or see above.
        """
        model, tokenizer = load(source)
        device = pick_device()
        if device.type == "cuda" and uses_bfloat16(weights):
            model.bfloat16()
        model.to(device)
        task = make_task(*load_task_config(source, model))
        template = ChatTemplate.find(source.path, tokenizer)
        name, example = source.path.resolve().name, _find_example(source)
        return cls(name, model, tokenizer, task, weights, template, example)

    @property
    def generates_text(self) -> bool:
        """Whether answers are chosen token by token."""
        return isinstance(self.answerer, GenerateText)

    @property
    def input_kind(self) -> str:
        """The kind of input: "text", "image", or "speech" for a text that is spoken."""
        if self.model.config.predicts_features:
            return "speech"
        return self.layout.medium or "text"

    def describe(self) -> dict[str, Any]:
        """Return the entry of /v1/models; `gptexp` has what the page needs to know."""
        config = self.model.config
        details: dict[str, Any] = {
            "task": self.task.config.kind,
            "input": self.input_kind,
            "generates_tokens": self.generates_text,
            "continues_text": self.layout.stream,
            "chat": self._chat_kind(),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "context": config.context,
        }
        if isinstance(self.answerer, GenerateText):
            details |= {
                "max_tokens": self.answerer.max_new_tokens,
                "sampling": vars(self.answerer.sampling),
            }
        if self.input_kind == "speech":
            details["voices"] = list(getattr(self.task.config, "voices", []))
        if self.example is not None:
            details["example"] = self.example
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "gptexp",
            "gptexp": details,
        }

    def _chat_kind(self) -> str:
        """Return how a conversation becomes a prompt: see docs/serving.md."""
        if self.template is not None and self.layout.stream:
            return "template"
        return "plain" if self.layout.stream else "last message"

    def ask_text(self, text: str, max_tokens: int | None = None) -> Question:
        """Make a question of a text, as `gptexp generate` does.

        Raises:
            RequestError: the task cannot answer it.
        """
        if self.input_kind != "text":
            raise self._wrong_endpoint()
        if not text.strip():
            raise RequestError("prompt: is empty", "prompt")
        return self._ask(text, text, max_tokens)

    def ask_image(self, data: bytes, max_tokens: int | None = None) -> Question:
        """Make a question of the bytes of an image file. Names of files are never read.

        Raises:
            RequestError: it is not an image, or the task answers texts.
        """
        if self.input_kind != "image":
            raise RequestError(f"{self.name}: answers no images; its task is {self.kind}")
        return self._ask(io.BytesIO(data), "", max_tokens)

    def _ask(self, raw: Any, text: str, max_tokens: int | None) -> Question:
        tokenizer, layout, answerer = self.tokenizer, self.layout, self.answerer
        try:
            parsed = layout.parse_prompt(raw, tokenizer)
            unread = describe_unread_input(
                layout, answerer, parsed, tokenizer, self.model.config, max_tokens or None
            )
            if not isinstance(answerer, GenerateText):
                tokens = tokenizer.encode(text)
                return Question(parsed, Prompt(tuple(tokens)), text, tokenizer.decode)
            prompt = layout.prompt(parsed, tokenizer)
        except (UserError, ValueError) as error:
            raise RequestError(str(error)) from None
        warnings = (f"the model does not read the prompt as it is written: {unread}",)
        decode = answerer.decoder(prompt, tokenizer)
        return Question(parsed, prompt, text, decode, warnings=warnings if unread else ())

    def ask_tokens(self, tokens: Sequence[int], max_tokens: int | None = None) -> Question:
        """Make a question of token numbers, which the model continues as they are.

        Raises:
            RequestError: there are none, or one is not in the vocabulary.
        """
        size = self.model.config.vocab_size
        if self.input_kind != "text" or not self.generates_text:
            raise RequestError(f"{self.name}: answers no token numbers; its task is {self.kind}")
        if not tokens:
            raise RequestError("prompt: is empty", "prompt")
        if outside := [token for token in tokens if not 0 <= token < size]:
            raise RequestError(
                f"prompt: token {outside[0]} is not in the vocabulary, 0 to {size - 1}", "prompt"
            )
        decode: Decode = self.tokenizer.decode
        text = decode(list(tokens))
        if self.layout.stream:
            decode = decode_after(decode, tokens)
        warnings = []
        room = prompt_room(self.model.config, self.max_new_tokens(max_tokens))
        if 0 < room < len(tokens):
            warnings.append(f"the first {len(tokens) - room} tokens of the prompt are not read")
        return Question(None, Prompt(tuple(tokens)), text, decode, warnings=tuple(warnings))

    def ask_chat(self, messages: list[Message], max_tokens: int | None) -> Question:
        """Make a question of a conversation: by a chat template, as a plain text, or of its last message.

        Raises:
            RequestError: the task cannot answer it.
        """
        last = messages[-1]
        if last.role == "assistant":
            raise RequestError("messages: the last one must be of the user", "messages")
        if self.input_kind == "image":
            if last.image is None:
                raise RequestError("messages: the last one has no image", "messages")
            question = self.ask_image(last.image, max_tokens)
            texts = [message.text for message in messages if message.text]
            note = "the model reads the image alone"
            return replace(question, warnings=(note,)) if texts else question
        if any(message.image for message in messages):
            raise RequestError(f"{self.name}: answers no images; its task is {self.kind}")
        if self.input_kind == "text" and self.layout.stream and self.generates_text:
            if self.template is not None:
                return self.ask_tokens(self.template.encode(messages), max_tokens)
            question = self.ask_text(format_plain(messages), max_tokens)
            decode = question.decode
            return replace(
                question, decode=lambda tokens: decode(tokens).lstrip(), stop=PLAIN_STOPS
            )
        question = self.ask_text(last.text, max_tokens)
        if len(messages) > 1:
            note = f"task={self.kind} reads the last message alone"
            question = replace(question, warnings=(*question.warnings, note))
        return question

    @property
    def kind(self) -> str:
        return self.task.config.kind

    def _wrong_endpoint(self) -> RequestError:
        advice = {
            "image": "send an image to /v1/captions, or in a message to /v1/chat/completions",
            "speech": "send a text to /v1/audio/speech",
        }
        return RequestError(f"{self.name}: its task is {self.kind}; {advice[self.input_kind]}")

    def max_new_tokens(self, max_tokens: int | None) -> int:
        if max_tokens is None and isinstance(self.answerer, GenerateText):
            return self.answerer.max_new_tokens
        return max_tokens or 0

    def sampling(self, parameters: Parameters) -> Sampling:
        """Return the options of a request over those of the task; without a seed, one is drawn.

        Raises:
            RequestError: options conflict.
        """
        assert isinstance(self.answerer, GenerateText)
        seed = random.randrange(RANDOM_SEEDS) if parameters.seed is None else parameters.seed
        overrides: dict[str, Any] = dict(parameters.sampling)
        try:
            return self.answerer.sampling.with_overrides(parameters.count, **overrides, seed=seed)
        except ValueError as error:
            raise RequestError(str(error)) from None

    def check_length(self, question: Question, parameters: Parameters) -> None:
        """Check that an answer of the requested length fits into the context.

        Raises:
            RequestError: it does not.
        """
        length, limit = self.max_new_tokens(parameters.max_tokens), self.model.config.context - 1
        smallest = 0 if parameters.echoes else 1
        if not smallest <= length <= limit:
            raise RequestError(
                f"max_tokens={length}: must be from {smallest} to {limit}; the model's context is {limit + 1} tokens",
                "max_tokens",
            )
        room = prompt_room(self.model.config, length)
        if question.prompt.features is not None and len(question.prompt) > room:
            raise RequestError(
                f"max_tokens={length}: the image takes {len(question.prompt)} tokens, and the model's context is "
                f"{limit + 1}",
                "max_tokens",
            )
        if parameters.echoes and parameters.top_tokens is not None:
            if self.model.config.arch != "decoder":
                raise RequestError(
                    f"logprobs with echo: model.arch={self.model.config.arch} predicts no tokens of its prompt",
                    "echo",
                )
            if len(question.prompt) > room:
                raise RequestError(
                    f"prompt: has {len(question.prompt)} tokens, and {room} fit beside max_tokens={length}",
                    "prompt",
                    code="context_length_exceeded",
                )

    def make_answer(
        self,
        question: Question,
        parameters: Parameters,
        sampling: Sampling,
        seed: int,
        deliver: Callable[[Piece | Exception], None],
    ) -> Answer:
        text = AnswerText(question.decode, (*parameters.stop, *question.stop))
        length = self.max_new_tokens(parameters.max_tokens)
        return Answer(question.prompt, length, sampling, seed, text, deliver, parameters.top_tokens)

    # The following run in the worker's thread, between two steps of its batch.

    def search(
        self, question: Question, parameters: Parameters, sampling: Sampling
    ) -> list[Choice]:
        """Answer by beam search or minimum Bayes risk decoding."""
        assert isinstance(self.answerer, GenerateText)
        if self._generator is None:
            self._generator = Generator(self.model, self.tokenizer.eos_ids, self.weights)
        stops = (*parameters.stop, *question.stop)
        length = self.max_new_tokens(parameters.max_tokens)
        rows = self._generator.generate(
            [question.prompt] * parameters.count,
            length,
            sampling,
            stopping_criteria=lambda tokens: find_stop(question.decode(tokens), stops) is not None,
            candidate_weight=self.answerer.candidate_weight(self.tokenizer),
        )
        answers = []
        for row in rows:
            text = question.decode(row)
            end = find_stop(text, stops)
            reason = "length" if end is None and len(row) == length else "stop"
            scores: list[TokenScore] = []
            if parameters.top_tokens is not None:
                prompt = cut_prompt(self.model.config, question.prompt, length)
                scores = self._score_answer(prompt, question.decode, row, parameters.top_tokens)
            answers.append(Choice(text[:end], scores, len(row), reason))
        return answers

    @torch.inference_mode()
    def _score_answer(
        self, prompt: Prompt, decode: Decode, tokens: list[int], top: int
    ) -> list[TokenScore]:
        """Score the tokens of an answer that is known."""
        text, scores = AnswerText(decode), []
        with generation_mode(self.model):
            state = DecodeState(self.model, [prompt], max(1, len(tokens)))
            for token in tokens:
                scores.append(score_token(state.logits[0], token, top, text))
                text.add(token)
                if len(scores) < len(tokens):
                    state.step(torch.tensor([token], device=state.logits.device))
        return scores

    @torch.inference_mode()
    def score_prompt(self, prompt: Prompt, top: int) -> list[TokenScore]:
        """Score the tokens of a prompt; the first has no probability."""
        text = AnswerText(self.tokenizer.decode)
        scores = [TokenScore(prompt.tokens[0], None)]
        text.add(prompt.tokens[0])
        with generation_mode(self.model):
            tokens = torch.tensor([prompt.tokens], device=self.model.embedding.weight.device)
            states = self.model(tokens)[0]
            for state, token in zip(states, prompt.tokens[1:], strict=False):
                scores.append(score_token(self.model.logits(state[None])[0], token, top, text))
                text.add(token)
        return scores

    @torch.inference_mode()
    def answer_whole(self, question: Question) -> Any:
        """Answer by a task that does not choose tokens."""
        [output] = self.answerer.answer(self.model, self.tokenizer, [question.input])
        return output

    def speak(self, text: str, voice: str | None, suffix: str) -> bytes:
        """Return the audio of a spoken text as a file of this format: wav or flac.

        Raises:
            RequestError: the model speaks no texts, or not this one.
        """
        if self.input_kind != "speech":
            raise RequestError(f"{self.name}: does not speak; its task is {self.kind}")
        import soundfile

        from gptexp.tasks.speech.audio import RATE
        from gptexp.tasks.speech.layout import VoiceTextFrames

        assert isinstance(self.layout, VoiceTextFrames)
        try:
            line = self.layout.voice_text(text, voice, self.tokenizer)
            [audio] = self.answerer.answer(self.model, self.tokenizer, [line])
        except (UserError, ValueError) as error:
            raise RequestError(str(error), "input") from None
        buffer = io.BytesIO()
        soundfile.write(buffer, audio.samples, RATE, format=suffix.upper())
        return buffer.getvalue()


def _find_example(source: RunFolder | PretrainedFolder) -> str | None:
    """Return a held-out input of a run's samples, if they have texts."""
    if not isinstance(source, RunFolder):
        return None
    text = next(iter(source.samples()), {}).get("input")
    return text if isinstance(text, str) else None
