"""Preferences: learn from pairs of answers which of the two is the better one.

The primary metric is the accuracy of the implicit rewards on held-out pairs (Rafailov et al. 2023, arXiv 2305.18290).
Length and likeness of generated answers to the chosen ones show, before and after, whether they change for the better.
"""

import hashlib
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule

from gptexp.config import schema
from gptexp.config.base_weights import FOLDER
from gptexp.data.batch import pairs_to_rows
from gptexp.data.datasets.preference_pairs import pad_pairs
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.decode_state import prompt_room
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.loss import PreferenceLoss
from gptexp.model import Transformer
from gptexp.model.token_loss import compute_log_probs
from gptexp.sampling import Sampling
from gptexp.tasks.answer_pairs import AnswerPair, AnswerPairs
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.chat import ExactAnswer, RougeL
from gptexp.tasks.entities import words_of
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import UNDEFINED, ExampleMetric, Metric
from gptexp.tasks.reference import Reference
from gptexp.tasks.task import Task, means

SAMPLING = Sampling(temperature=1.0)  # of the answers that the divergence is estimated from


class PairAnswer(str):
    """A generated answer, and what the model makes of the pair.

    Attributes:
        rewards: implicit rewards of the chosen and of the rejected answer.
        divergence: estimate of the divergence from the initial weights for this prompt, in nats an answer.
    """

    rewards: tuple[float, float]
    divergence: float

    def __new__(
        cls,
        text: str = "",
        rewards: tuple[float, float] = (UNDEFINED, UNDEFINED),
        divergence: float = UNDEFINED,
    ) -> "PairAnswer":
        answer = super().__new__(cls, text)
        answer.rewards, answer.divergence = rewards, divergence
        return answer


class ComparePairs(GenerateText):
    """Answers prompts; for pairs of answers, it also computes their rewards and the divergence from the reference."""

    reference: Reference | None = None

    def __init__(
        self, layout: AnswerPairs, max_new_tokens: int, preference: PreferenceLoss
    ) -> None:
        super().__init__(layout, max_new_tokens)
        self.preference = preference

    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[Any]) -> list[str]:
        texts = super().answer(model, tokenizer, inputs)
        pairs = [pair for pair in inputs if isinstance(pair, AnswerPair)]
        reference = self.reference
        if reference is None or len(pairs) < len(inputs):
            return texts
        is_sharded = isinstance(model, FSDPModule)
        initial = reference.model(is_sharded)
        if initial is not None and not is_sharded and have_equal_weights(model, initial):
            return [PairAnswer(text, (0.0, 0.0), 0.0) for text in texts]
        rewards = self._compute_rewards(model, tokenizer, pairs, reference)
        divergences = [UNDEFINED] * len(pairs)
        if initial is not None:
            prompts = [self.layout.prompt(pair, tokenizer) for pair in pairs]
            divergences = estimate_divergences(
                model, initial, tokenizer, prompts, self.max_new_tokens
            )
        return [PairAnswer(*parts) for parts in zip(texts, rewards, divergences, strict=True)]

    @torch.no_grad()
    def _compute_rewards(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        pairs: list[AnswerPair],
        reference: Reference,
    ) -> list[tuple[float, float]]:
        device = model.embedding.weight.device
        tokens, targets = pad_pairs([pair.tokens for pair in pairs], tokenizer.pad)
        tokens, targets = pairs_to_rows(tokens).to(device), pairs_to_rows(targets).to(device)
        with reference.autocast():
            log_probs = compute_log_probs(model, tokens, targets).view(-1, 2)
        before = torch.tensor(np.array([pair.reference for pair in pairs]), device=device)
        lengths = (targets >= 0).sum(dim=1).view(-1, 2)
        rewards = self.preference.rewards(log_probs, lengths, before)
        return [(chosen, rejected) for chosen, rejected in rewards.tolist()]


def have_equal_weights(model: Transformer, other: Transformer) -> bool:
    """Return whether two models have the same parameters; adapters that change nothing count as a difference."""
    parameters = list(model.parameters()), list(other.parameters())
    return len(parameters[0]) == len(parameters[1]) and all(
        torch.equal(*pair) for pair in zip(*parameters, strict=True)
    )


@torch.no_grad()
def estimate_divergences(
    model: Transformer,
    initial: Transformer,
    tokenizer: Tokenizer,
    prompts: list[Prompt],
    max_new_tokens: int,
) -> list[float]:
    """Estimate the Kullback-Leibler divergence KL(model || initial) of the answers to each prompt, in nats an answer.

    One answer a prompt is sampled from the model. The divergences of the next token at each of its positions are added
    up, which is unbiased and varies less than the log ratio of the sample (Amini et al. 2025, arXiv 2504.10637). A
    prompt without room for the answer loses its first tokens, for both models.
    """
    room = prompt_room(model.config, max_new_tokens)  # a generator cuts longer prompts to it
    prompts = [Prompt(prompt.tokens[-room:]) for prompt in prompts]
    seeds = [_seed(prompt) for prompt in prompts]
    answers = Generator(model, tokenizer.eos_ids).generate(
        prompts, max_new_tokens, SAMPLING, seeds=seeds
    )
    rows = [[*prompt.tokens, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    longest = max(map(len, rows), default=0)
    padded = [[*row, *[tokenizer.pad] * (longest - len(row))] for row in rows]
    tokens = torch.tensor(padded, device=model.embedding.weight.device)
    if isinstance(initial, FSDPModule):
        initial.unshard()  # the embedding and the head
    states, initial_states = model(tokens), initial(tokens)
    divergences = []
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start = len(prompt.tokens) - 1
        end = start + min(len(answer) + 1, max_new_tokens)  # with the token that ends the answer
        log_p, log_q = (
            m.logits(x[number, start:end]).float().log_softmax(dim=-1)
            for m, x in ((model, states), (initial, initial_states))
        )
        divergences.append(float((log_p.exp() * (log_p - log_q)).sum()))
    return divergences


def _seed(prompt: Prompt) -> int:
    """Return a seed that follows from a prompt: answers to different prompts are independent."""
    digest = hashlib.blake2b(np.array(prompt.tokens).tobytes(), digest_size=4).digest()
    return int.from_bytes(digest)


class RewardAccuracy(ExampleMetric):
    """The share of the pairs whose chosen answer has the higher reward, 0 to 1; equal rewards are half right."""

    name = "reward_accuracy"

    def score(self, output: PairAnswer, example: EvalExample) -> float:
        chosen, rejected = output.rewards
        return UNDEFINED if math.isnan(chosen) else (np.sign(chosen - rejected) + 1) / 2

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[Any]]:
        pairs = [example.input for example in examples]
        shorter = [(-len(pair.tokens.chosen), -len(pair.tokens.rejected)) for pair in pairs]
        likelier = [tuple(pair.reference) for pair in pairs if pair.reference is not None]
        baselines = {"the shorter answer": shorter}
        if len(likelier) == len(pairs):
            baselines["the answer that is likelier before training"] = likelier
        return {
            name: [PairAnswer(rewards=rewards) for rewards in values]
            for name, values in baselines.items()
        }


class Rewards(Metric):
    """The implicit rewards of both answers: beta times the log ratio to the initial weights."""

    name = "reward_margin"

    def score_each(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, list[float]]:
        chosen, rejected = zip(*(output.rewards for output in outputs), strict=True)
        return {
            "reward_margin": [a - b for a, b in zip(chosen, rejected, strict=True)],
            "chosen_reward": list(chosen),
            "rejected_reward": list(rejected),
        }


class Divergence(ExampleMetric):
    """The divergence from the initial weights, in nats an answer: see `estimate_divergences`."""

    name = "kl"
    higher_is_better = False
    defined_for = MappingProxyType({"kl": "pairs of runs whose initial weights are still there"})

    def score(self, output: PairAnswer, example: EvalExample) -> float:
        return output.divergence


class AnswerWords(ExampleMetric):
    """The number of words of an answer, beside those of the chosen and of the rejected answers."""

    name = "answer_words"
    higher_is_better = False

    def prepare(self, store: TokenStore, examples: list[EvalExample]) -> dict[str, float]:
        words = [(len(e.reference.split()), len(e.input.rejected.split())) for e in examples]
        return dict(zip(("chosen_words", "rejected_words"), np.mean(words, axis=0), strict=True))

    def score(self, output: str, example: EvalExample) -> float:
        return float(len(output.split()))


class WordRecall(ExampleMetric):
    """The share of the words of the chosen answer that an output has, 0 to 1: a long output may be right, too."""

    name = "word_recall"
    defined_for = MappingProxyType({"word_recall": "chosen answers with words"})

    def score(self, output: str, example: EvalExample) -> float:
        words = words_of(example.reference.lower())
        return len(words & words_of(output.lower())) / len(words) if words else UNDEFINED


class Prefer(Task):
    metrics = (
        RewardAccuracy(),
        Rewards(),
        Divergence(),
        AnswerWords(),
        WordRecall(),
        RougeL(),
        ExactAnswer(),
    )
    layout: AnswerPairs
    answerer: ComparePairs

    def __init__(self, config: schema.PreferConfig, model: schema.ModelConfig) -> None:
        preference = PreferenceLoss(config.loss, config.beta, config.sft_weight)
        layout = AnswerPairs(model.context, config.max_new_tokens, preference)
        answerer = ComparePairs(layout, config.max_new_tokens, preference)
        super().__init__(config, model, layout, answerer)

    def use_reference(self, reference: Reference) -> None:
        self.layout.reference = reference.log_probs
        self.answerer.reference = reference

    def prepare_metrics(self, store: TokenStore, examples: list[EvalExample]) -> dict[str, float]:
        if self.answerer.reference is not None:
            self.answerer.reference.release()  # the examples are answered
        return super().prepare_metrics(store, examples)

    def score_baselines(self, examples: list[EvalExample]) -> tuple[str, dict[str, float]]:
        accuracy = self.metrics[0]
        scores = {
            name: means(accuracy.score_each(outputs, examples))
            for name, outputs in self.baselines(examples).items()
        }
        best = max(scores, key=lambda name: scores[name].get(accuracy.name, 0.0))
        return best, scores[best]

    def sample(self, example: EvalExample, output: Any) -> dict[str, Any]:
        return {"input": str(example.input), "reference": example.reference, "output": str(output)}

    def remarks(
        self, metrics: dict[str, float], split: str, baseline: str, init: str | None
    ) -> list[str]:
        remarks = super().remarks(metrics, split, baseline, init)
        if init is not None and Path(init) == FOLDER:
            remarks.append(
                "it started from base, which has not learned to answer: train it first with task=chat, then start from "
                "that run, init=RUN"
            )
        chosen, margin = (
            metrics.get(f"{split}/{x}", 0.0) for x in ("chosen_reward", "reward_margin")
        )
        if chosen < 0 < margin:
            remarks.append(
                "chosen answers have become less likely than in the initial weights, and rejected ones even more so: "
                "common with this loss; task.sft_weight above 0 keeps the chosen ones likely"
            )
        return remarks
