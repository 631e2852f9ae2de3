"""Chat: conversations whose assistant's messages are learned, and answered one by one given the true history.

Outputs to closed questions are compared exactly, and all by ROUGE-L, next to answers of the training split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from gptexp.config import schema
from gptexp.data.chat_format import ChatFormat
from gptexp.data.conversation import Conversation
from gptexp.data.token_store import TokenStore
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.chat_turns import ChatTurns
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import UNDEFINED, ExactMatch, Metric, Rouge
from gptexp.tasks.task import Task
from gptexp.tasks.training_answers import TrainingAnswers

OPEN_KINDS = ("summary",)  # of questions with many right answers
MAX_CLOSED_WORDS = 5  # of an answer to a closed question, where the data name no kinds


def is_closed(example: EvalExample) -> bool:
    """Return whether a question has one right answer: by its kind, or by the length of the answer."""
    if kind := example.input.kind:
        return kind not in OPEN_KINDS
    return len(example.reference.split()) <= MAX_CLOSED_WORDS


class ExactAnswer(ExactMatch):
    defined_for = MappingProxyType({"exact": "closed questions, which have one right answer"})

    def __init__(self) -> None:
        super().__init__("exact")

    def score(self, output: str, example: EvalExample) -> float:
        return super().score(output, example) if is_closed(example) else UNDEFINED


class RougeL(Rouge):
    min_words = MappingProxyType({"rougeL": 1})
    defined_for = MappingProxyType({"rougeL": "references with words"})


class ByKind(Metric):
    """The score of each kind of question that the data name: exact matches of closed ones, ROUGE-L of open ones."""

    def score_each(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, list[float]]:
        kinds = [example.input.kind for example in examples]
        exact = ExactAnswer().score_each(outputs, examples)["exact"]
        rouge = RougeL().score_each(outputs, examples)["rougeL"]
        return {
            f"{'rougeL' if kind in OPEN_KINDS else 'exact'}_{kind}": [
                score if own == kind else UNDEFINED
                for own, score in zip(kinds, rouge if kind in OPEN_KINDS else exact, strict=True)
            ]
            for kind in sorted({*kinds} - {""})
        }


class Chat(Task):
    """Answers of the assistant, each given the true history."""

    metrics = (RougeL(), ExactAnswer(), ByKind())
    layout: ChatTurns

    def __init__(self, config: schema.ChatConfig, model: schema.ModelConfig) -> None:
        layout = ChatTurns(model.context, config.max_new_tokens, config.packing)
        super().__init__(config, model, layout, GenerateText(layout, config.max_new_tokens))
        self._training: tuple[TokenStore, TrainingAnswers] | None = None  # of the last store

    def prepare_metrics(self, store: TokenStore, examples: list[EvalExample]) -> dict[str, float]:
        is_known = self._training is not None and self._training[0] is store
        if store.has("train") and not is_known:
            self._training = store, TrainingAnswers(store)
        return super().prepare_metrics(store, examples)

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        messages = [example.input.conversation.messages[-1].text for example in examples]
        baselines = {"first line of the last message": [text.split("\n")[0] for text in messages]}
        if self._training is None:
            return baselines
        store, training = self._training
        chat = self.layout.format(store.tokenizer)
        questions = [last_question(chat, example.input.conversation) for example in examples]
        return baselines | {
            "most frequent answer of the training split": [training.most_frequent()]
            * len(examples),
            "answer to the most similar question of the training split": list(
                map(training.nearest, questions)
            ),
        }

    def describe_undefined(self, scores: Mapping[str, Sequence[float]], split: str) -> list[str]:
        of_all = {k: v for k, v in scores.items() if not k.startswith(("exact_", "rougeL_"))}
        return super().describe_undefined(of_all, split)

    def sample(self, example: EvalExample, output: Any) -> dict[str, Any]:
        return super().sample(replace(example, input=example.input.outline()), output)


def last_question(chat: ChatFormat, history: Conversation) -> list[int]:
    """Return the tokens of a prompt behind the last answer in it."""
    learned = np.flatnonzero(chat.render(history).learned)
    start = int(learned[-1]) + 1 if len(learned) else 0
    return chat.render(history, reply=True).tokens[start:]
