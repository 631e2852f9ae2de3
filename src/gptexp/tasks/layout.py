"""A layout turns examples into token sequences for training, and inputs into prompts of the same form."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptexp.data.account import DataAccount
from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.prompt_completion import PromptCompletionDataset
from gptexp.data.permutation import feistel_permutation
from gptexp.data.token_store import Cut, TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.generation.prompt import Prompt


@dataclass(frozen=True)
class EvalExample:
    """A held-out example: the input that the model answers, and the reference that its output is compared with."""

    input: Any
    reference: Any


class Layout(ABC):
    fields: tuple[str, ...]  # the fields of an example that it reads
    medium: str = ""  # "image" or "audio", where it reads an example's media, too
    stream: bool = False  # True: windows over one stream of documents, and outputs continue prompts
    predicts_next: bool = True  # the target of a position is the next token, not one of its own
    targets_are_tokens: bool = True  # False: `target_name` names them
    shows_example: bool = False  # True: a run prints an example of a new store before it trains

    @property
    def learned_fields(self) -> tuple[str, ...]:
        """The fields whose texts the model learns: by default the last one."""
        return self.fields[-1:]

    @abstractmethod
    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        """Return a sequence of at most context + 1 tokens for each example (of any length for a stream).

        None stands for an example that the task cannot use; `example.left_out` then says why.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return all that `encode` depends on, as JSON values: the token store is keyed by it."""

    def extend_tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """Return the tokenizer with the special tokens that the task needs."""
        return tokenizer

    def has_new_tokens(self, tokenizer: Tokenizer) -> bool:
        """Return whether the tokenizer has tokens of `extend_tokenizer`: adapters train their embedding, too."""
        return False

    @property
    def has_fixed_lengths(self) -> bool:
        """Whether all sequences of training have the same length."""
        return self.stream

    def objection(self, account: DataAccount) -> str:
        """Return why the examples of this account hold nothing to learn; "": they do."""
        return ""

    @abstractmethod
    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        """Open the sequences of a split: in the order of `seed` for training, None for a fixed pass."""

    @abstractmethod
    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        """Yield up to `count` held-out examples, or all of them where it is 0."""

    def parse_prompt(self, text: Any, tokenizer: Tokenizer) -> Any:
        """Turn the prompt of a command line or of Python into an input: the text itself, or the file that it names.

        Raises:
            UserError: the task cannot answer it.
        """
        if not isinstance(text, str):
            raise UserError(f"{text!r:.60}: this task answers texts")
        return text

    def target_name(self, target: int) -> str:
        """Return the name of a target that is no token, for people."""
        return str(target)

    def label_name(self, label: int) -> str:
        """Return the name of the class of a sequence, for people."""
        return str(label)

    def texts(self, input: Any) -> list[str]:
        """Return the texts of an input that are encoded."""
        return [input] if isinstance(input, str) else []

    def prompt_cuts(self, input: Any, tokenizer: Tokenizer) -> tuple[Cut, ...]:
        """Return the parts of an input that do not fit into its prompt."""
        return ()

    def prompt(self, input: Any, tokenizer: Tokenizer) -> Prompt:
        """Return the prompt that the model continues to answer an input."""
        raise NotImplementedError(f"{type(self).__name__} has no prompts")


class PromptCompletion(Layout):
    """source <sep> target <eos>: the loss is on the target, or on both."""

    def __init__(
        self,
        context: int,
        max_target_tokens: int,
        loss_on_prompt: bool = False,
        fields: tuple[str, str] = ("source", "target"),
    ) -> None:
        self.fields, self.loss_on_prompt = fields, loss_on_prompt
        self.context, self.max_target_tokens = context, max_target_tokens
        self.max_source_tokens = context - 1 - max_target_tokens
        assert self.max_source_tokens > 0

    def fingerprint(self) -> dict[str, Any]:
        return {
            "layout": "source sep target eos",
            "source": self.max_source_tokens,
            "target": self.max_target_tokens,
            "loss_on_prompt": self.loss_on_prompt,
        }

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        sources, targets = (
            tokenizer.encode_batch([example.fields[name] for example in examples])
            for name in self.fields
        )
        return [
            self._sequence(*parts, tokenizer)
            for parts in zip(examples, sources, targets, strict=True)
        ]

    def _sequence(
        self, example: Example, source: list[int], target: list[int], tokenizer: Tokenizer
    ) -> TokenizedExample | None:
        for name, tokens in zip(self.fields, (source, target), strict=True):
            if not tokens:
                example.leave_out(
                    f"the tokenizer has no token for its {name}", example.fields[name]
                )
                return None
        prompt = [*source[: self.max_source_tokens], tokenizer.sep]
        completion = [*target[: self.max_target_tokens], tokenizer.eos]
        targets = len(completion)
        if self.loss_on_prompt:
            targets += len(prompt) - 1
        cuts = (*self._source_cuts(source), *self._target_cuts(target))
        return TokenizedExample(prompt + completion, prefix=len(prompt), targets=targets, cuts=cuts)

    def _source_cuts(self, source: list[int]) -> tuple[Cut, ...]:
        limit = self.max_source_tokens
        setting = (
            f"model.context={self.context} and task.max_target_tokens={self.max_target_tokens} "
            f"leave {limit} tokens for it"
        )
        return cut_beyond(limit, len(source), self.fields[0], setting)

    def _target_cuts(self, target: list[int]) -> tuple[Cut, ...]:
        limit = self.max_target_tokens
        return cut_beyond(limit, len(target), self.fields[1], f"task.max_target_tokens={limit}")

    def prompt_cuts(self, input: str, tokenizer: Tokenizer) -> tuple[Cut, ...]:
        return self._source_cuts(tokenizer.encode(input))

    def prompt(self, input: str, tokenizer: Tokenizer) -> Prompt:
        return Prompt((*tokenizer.encode(input)[: self.max_source_tokens], tokenizer.sep))

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return PromptCompletionDataset(store, split, self.loss_on_prompt)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        for example in sample_examples(store, split, count):
            yield EvalExample(example[self.fields[0]], example[self.fields[1]])


def cut_beyond(limit: int, length: int, part: str, setting: str) -> tuple[Cut, ...]:
    """Return the cut of a part of `length` tokens of which `limit` fit; none if all fit."""
    return (Cut(part, length - limit, setting),) if length > limit else ()


def sample_examples(store: TokenStore, split: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield the raw fields of `count` examples drawn from a whole held-out split, or of all where it is 0."""
    total = store.meta["splits"][split]["sequences"]
    count = min(count or total, total)
    sampled = set(feistel_permutation(np.arange(count), total, seed=0, epoch=0).tolist())
    for number, example in enumerate(store.examples(split)):
        if number in sampled:
            yield example
