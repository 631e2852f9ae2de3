"""A loaded model with its task, as requests see it."""

import time
from functools import cached_property
from typing import Any, Self

from gptexp.checkpoints.find_weights import PretrainedFolder
from gptexp.checkpoints.load_model import load, load_task_config
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import pick_device
from gptexp.errors import UserError
from gptexp.generation.generator import Generator
from gptexp.generation.gpu_decoder import uses_bfloat16
from gptexp.model import Transformer, TransformerConfig
from gptexp.runs.run_folder import RunFolder
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.chat_turns import ChatTurns
from gptexp.tasks.task import Task, make_task


class ServedModel:
    """A model, on the device that it computes on, with the task that it was trained for.

    Args:
        weights: their format: see Generator.
        example: an input to try.

    Raises:
        UserError: the task reads inputs that requests cannot hold.
    """

    def __init__(
        self,
        name: str,
        transformer: Transformer,
        tokenizer: Tokenizer,
        task: Task,
        weights: str = "float32",
        example: str | None = None,
    ) -> None:
        self.name, self.transformer, self.tokenizer, self.task = name, transformer, tokenizer, task
        self.layout, self.answerer = task.layout, task.answerer
        self.weights, self.example = weights, example
        self.created = int(time.time())
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
        name = source.path.resolve().name
        example = None if isinstance(task.layout, ChatTurns) else _find_example(source)
        return cls(name, model, tokenizer, task, weights, example)

    @property
    def config(self) -> TransformerConfig:
        return self.transformer.config

    @property
    def kind(self) -> str:
        """The name of the task."""
        return self.task.config.kind

    @cached_property
    def generator(self) -> Generator:
        """Decodes answers that do not join a batch."""
        return Generator(self.transformer, self.tokenizer.eos_ids, self.weights)

    @property
    def generates_text(self) -> bool:
        """Whether answers are chosen token by token."""
        return isinstance(self.answerer, GenerateText)

    @property
    def has_chat_format(self) -> bool:
        """Whether it reads whole conversations in the form of its chat template."""
        is_conversational = self.layout.stream or isinstance(self.layout, ChatTurns)
        return self.generates_text and is_conversational and bool(self.tokenizer.chat_template)

    @property
    def input_kind(self) -> str:
        """The kind of input: "text", "image", or "speech" for a text that is spoken."""
        if self.config.predicts_features:
            return "speech"
        return self.layout.medium or "text"

    def describe(self) -> dict[str, Any]:
        """Return the entry of /v1/models; `gptexp` has what the page needs to know."""
        details: dict[str, Any] = {
            "task": self.kind,
            "input": self.input_kind,
            "generates_tokens": self.generates_text,
            "continues_text": self.layout.stream,
            "chat": self._chat_kind(),
            "parameters": sum(parameter.numel() for parameter in self.transformer.parameters()),
            "context": self.config.context,
        }
        if isinstance(self.answerer, GenerateText):
            details |= {
                "max_tokens": self.answerer.max_new_tokens,
                "sampling": vars(self.answerer.sampling),
            }
        if self.input_kind == "speech":
            details["voices"] = list(getattr(self.task.config, "voices", []))
        if self.example is not None and self.input_kind == "text":
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
        if self.has_chat_format:
            return "template"
        return "plain" if self.layout.stream else "last message"

    def max_new_tokens(self, max_tokens: int | None) -> int:
        """Return the largest number of tokens of an answer; None: that of the task."""
        if max_tokens is None and isinstance(self.answerer, GenerateText):
            return self.answerer.max_new_tokens
        return max_tokens or 0


def _find_example(source: RunFolder | PretrainedFolder) -> str | None:
    """Return a held-out input of a run's samples, if they have texts."""
    if not isinstance(source, RunFolder):
        return None
    text = next(iter(source.samples()), {}).get("input")
    return text if isinstance(text, str) else None
