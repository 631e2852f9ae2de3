"""The interface of a task. A new task is one file here, one dataclass in the schema and one YAML under conf/task."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from gptexp.config import schema
from gptexp.config.targets import resolve
from gptexp.data.corpora import Example
from gptexp.data.datasets.prompt_completion import Examples
from gptexp.data.datasets.windows import SequenceDataset
from gptexp.data.permutation import feistel_permutation
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.model import Transformer
from gptexp.model.loss import LossCounts, LossSums
from gptexp.sampling import Sampling


class Task(ABC):
    """Encodes examples for the store, and scores what a model says."""

    fields: ClassVar[
        tuple[str, ...]
    ]  # what it needs of an example; the last one is what is learned
    stream: ClassVar[bool] = (
        False  # True: windows of one long stream; False: one sequence an example
    )
    answers_are_scored: ClassVar[bool] = True  # False: its loss alone is
    continues: ClassVar[bool] = False  # True: an answer goes on from its text
    sampling: Sampling = Sampling()  # how an answer is chosen, where nothing else is said
    headline: ClassVar[str]  # the metric that a table shows first
    higher_is_better: ClassVar[bool] = True
    baseline_name: ClassVar[str] = ""  # of what loss_metrics gives as baseline, in words

    def __init__(self, config: schema.TaskConfig, context: int) -> None:
        self.config, self.context = config, context

    @classmethod
    def on(cls, model: schema.ModelConfig) -> "type[Task]":  # noqa: ARG003
        """The class that does the task on this kind of model."""
        return cls

    @abstractmethod
    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        """Token sequences of at most context + 1 tokens (of any length for a stream); None: of no use."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `encode` depends on: part of the store's fingerprint."""

    @abstractmethod
    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        """The sequences of a split; `seed` where it is trained on, None for a fixed pass."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer of a task whose answers are generated."""
        raise NotImplementedError

    def read(self, given: str, tokenizer: Tokenizer) -> Any:
        """What a command line's words ask: the text itself, or the file that they name.

        Raises:
            UserError: it is nothing that the task can answer.
        """
        return given

    def prompt(self, asked: Any, tokenizer: Tokenizer) -> Prompt:
        """Return the prompt that makes the model answer what `read` returned."""
        raise NotImplementedError

    @abstractmethod
    def held_out(self, store: TokenStore, split: str, count: int) -> Iterator[dict[str, Any]]:
        """Up to `count` held-out examples as {"source", "target"}; 0: all. Both are texts, or media."""

    def judge(self, store: TokenStore, examples: list[dict[str, Any]]) -> dict[str, float]:
        """Prepare what the scores of held-out examples need beside the answers, and measure that itself."""
        return {}

    def loss_metrics(
        self, store: TokenStore, split: str, losses: LossSums, counts: LossCounts
    ) -> dict[str, float]:
        """Metrics that follow from the losses over all of a split."""
        return {"loss": float(losses.mean(counts))}

    def answers(self, model: Transformer, tokenizer: Tokenizer, texts: list[Any]) -> list[Any]:
        """What the model says to each."""
        prompts = [self.prompt(text, tokenizer) for text in texts]
        distinct = list(dict.fromkeys(prompts))  # copies of a prompt would get different answers
        seeds = self.sampling.seeds(1) * len(distinct)  # an answer depends on its prompt alone
        rows = Generator(model, tokenizer.eos).generate(
            distinct, self.max_new_tokens, self.sampling, seeds=seeds
        )
        answers = dict(zip(distinct, map(tokenizer.decode, rows), strict=True))
        return [answers[prompt] for prompt in prompts]

    def sample(self, example: dict[str, Any], output: Any) -> dict[str, Any]:
        """What is shown of an answer: texts, and media."""
        return {"input": example["source"], "reference": example["target"], "output": output}

    def score(self, outputs: list[Any], examples: list[dict[str, Any]]) -> dict[str, float]:
        """Metrics over all answers."""
        return means(self.score_each(outputs, examples)) | self.score_all(outputs, examples)

    def score_each(
        self, outputs: list[Any], examples: list[dict[str, Any]]
    ) -> dict[str, list[float]]:
        """Of the metrics that are means over the answers: the value of each answer."""
        return {}

    def score_all(self, outputs: list[Any], examples: list[dict[str, Any]]) -> dict[str, float]:
        """The metrics that are not."""
        return {}

    def baselines(self, examples: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """Answers that need no model; by what they are, in words."""
        raise NotImplementedError

    def remarks(
        self, metrics: dict[str, float], split: str, baseline: str, init: str | None
    ) -> list[str]:
        """What a reader of the figures should know."""
        name = f"{split}/{self.headline}"
        if name not in metrics:
            return []
        better = metrics[name] < metrics[f"{split}/baseline/{self.headline}"]
        if self.higher_is_better:
            better = metrics[name] > metrics[f"{split}/baseline/{self.headline}"]
        verdict = "better than" if better else "NOT better than"
        return [f"by {self.headline} the model is {verdict} the baseline ({baseline})"]


def means(scores: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in scores.items()}


def sample_examples(store: TokenStore, split: str, count: int) -> Iterator[dict[str, Any]]:
    """`count` examples of a held-out split as they were read, drawn from all of it; 0: all."""
    total = store.meta["splits"][split]["sequences"]
    count = min(count or total, total)
    chosen = set(feistel_permutation(np.arange(count), total, seed=0, epoch=0).tolist())
    for number, example in enumerate(store.examples(split)):
        if number in chosen:
            yield example


class TextToText(Task):
    """source <sep> target <eos>, loss on the target: what summarize, translate and extract share."""

    fields = ("source", "target")
    config: schema.TextToTextConfig

    def __init__(self, config: schema.TextToTextConfig, context: int) -> None:
        super().__init__(config, context)
        if config.num_beams > 1 and config.mbr_samples > 1:
            raise UserError(
                f"task.num_beams={config.num_beams} searches, task.mbr_samples={config.mbr_samples} "
                f"draws: one of them must be 1"
            )
        self.sampling = Sampling(
            config.temperature if config.mbr_samples > 1 else 0.0,
            num_beams=config.num_beams,
            length_penalty=config.length_penalty if config.num_beams > 1 else 1.0,
            mbr_samples=config.mbr_samples,
            no_repeat_ngram=config.no_repeat_ngram,
        )
        self.source_room = context - 1 - config.max_target_tokens
        if self.source_room < 1:
            raise UserError(
                f"task.max_target_tokens={config.max_target_tokens} leaves no room for a source in "
                f"model.context={context}"
            )

    @property
    def max_new_tokens(self) -> int:
        return self.config.max_target_tokens

    def settings(self) -> dict[str, Any]:
        return {
            "layout": "source sep target eos",
            "source": self.source_room,
            "target": self.config.max_target_tokens,
            "loss_on_prompt": self.config.loss_on_prompt,
        }

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        sources, targets = (
            tokenizer.encode_batch([example.fields[name] for example in examples])
            for name in self.fields
        )
        return [self._sequence(s, t, tokenizer) for s, t in zip(sources, targets, strict=True)]

    def _sequence(
        self, source: list[int], target: list[int], tokenizer: Tokenizer
    ) -> TokenizedExample:
        given = self._given(source, tokenizer)
        said = [*target[: self.config.max_target_tokens], tokenizer.eos]
        targets = len(given) - 1 + len(said) if self.config.loss_on_prompt else len(said)
        return TokenizedExample(given + said, prefix=len(given), targets=targets)

    def _given(self, source: list[int], tokenizer: Tokenizer) -> list[int]:
        return [*source[: self.source_room], tokenizer.sep]

    def prompt(self, text: str, tokenizer: Tokenizer) -> Prompt:
        return Prompt(tuple(self._given(tokenizer.encode(text), tokenizer)))

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return Examples(store, split, self.config.loss_on_prompt)

    def remarks(
        self, metrics: dict[str, float], split: str, baseline: str, init: str | None
    ) -> list[str]:
        said = super().remarks(metrics, split, baseline, init)
        if said and "NOT" in said[0] and init is None:
            said.append(
                "it started from random weights: train longer (trainer.max_steps), or pretrain first "
                "(task=pretrain with the same model) and add init=RUN to this command"
            )
        if said and self.sampling.mbr_samples > 1:
            said.append(
                f"an answer is the one of {self.sampling.mbr_samples} drawn ones that most others resemble"
            )
        return said

    def held_out(self, store: TokenStore, split: str, count: int) -> Iterator[dict[str, str]]:
        for example in sample_examples(store, split, count):
            yield {"source": example[self.fields[0]], "target": example[self.fields[1]]}


def make_task(config: schema.TaskConfig, model: schema.ModelConfig) -> Task:
    """Build the task that the config names."""
    return resolve(config.target).on(model)(config, model.context)
