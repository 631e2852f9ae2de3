"""A full deterministic pass over a held-out split: loss, then generated answers scored next to the naive baseline."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch

from gptexp.data.batches import HeldOutDataset
from gptexp.data.progress import track_progress
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import autocast
from gptexp.distributed.process_group import ProcessGroup
from gptexp.model import Transformer
from gptexp.model.loss import LossCounts, LossSums
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.task import Task, means

BATCH, TOKENS = 32, 1 << 14  # computed at once: at most so many sequences, and about so many tokens
ALONE = ProcessGroup()
PREFIX = {"unseen": "test/unseen"}  # of metrics' names, where it is not the split's
RESAMPLED = 2000  # times, for an interval
Found = TypeVar("Found")


@dataclass
class Evaluation:
    metrics: dict[
        str, float
    ]  # SPLIT/loss, SPLIT/rougeL, SPLIT/baseline/rougeL, SPLIT/low/rougeL, ...
    samples: list[dict[str, Any]]  # input, reference, output
    baseline: str  # the strongest of the naive ones, in words


def batch_size(context: int) -> int:
    return max(1, min(BATCH, TOKENS // context))


def evaluate(
    model: Transformer,
    task: Task,
    store: TokenStore,
    split: str,
    precision: str = "32",
    process_group: ProcessGroup = ALONE,
) -> Evaluation:
    """Metrics of `split` ("val", "test", "unseen") and a few samples; the loss in the precision that training has.

    Ranks share the batches, which are the same however many ranks there are: so are the figures, to the bit.
    """
    losses = _losses(model, task, store, split, precision, process_group)
    metrics = task.loss_metrics(store, split, *losses)
    count = task.config.test_examples if task.metrics else task.config.samples
    examples: list[EvalExample] = []
    if count or task.metrics:
        examples = list(task.layout.eval_examples(store, split, count))
    metrics |= task.prepare_metrics(store, examples)
    outputs = answers(
        model, task, store.tokenizer, [example.input for example in examples], process_group
    )
    baseline = task.loss_baseline
    if task.metrics:
        each = task.score_each(outputs, examples)
        metrics |= means(each) | interval(each) | task.score_all(outputs, examples)
        strongest, naive = task.strongest_baseline(examples)
        baseline = baseline or strongest
        metrics |= {f"baseline/{name}": value for name, value in naive.items()}
    pairs = zip(examples, outputs, strict=True)
    samples = [task.sample(*pair) for pair in islice(pairs, task.config.samples)]
    prefix = PREFIX.get(split, split)
    return Evaluation(
        {f"{prefix}/{name}": value for name, value in metrics.items()}, samples, baseline
    )


def interval(scores: dict[str, list[float]]) -> dict[str, float]:
    """low/NAME and high/NAME: where 95 % of the means over resampled examples lie (Efron 1979)."""
    found: dict[str, float] = {}
    for name, values in scores.items():
        draw, array = np.random.default_rng(0), np.array(values)
        means = [array[draw.integers(len(array), size=len(array))].mean() for _ in range(RESAMPLED)]
        low, high = np.quantile(means, (0.025, 0.975))
        found |= {f"low/{name}": float(low), f"high/{name}": float(high)}
    return found


def answers(
    model: Transformer,
    task: Task,
    tokenizer: Tokenizer,
    texts: list[Any],
    process_group: ProcessGroup = ALONE,
) -> list[Any]:
    """What the model says to each; texts of similar length are computed together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def said(number: int) -> dict[int, Any]:
        chosen = [texts[i] for i in groups[number]]
        return dict(
            zip(groups[number], task.answerer.answer(model, tokenizer, chosen), strict=True)
        )

    found = {
        i: text
        for group in _shared(len(groups), said, "answering", process_group)
        for i, text in group.items()
    }
    return [found[i] for i in range(len(texts))]


@torch.inference_mode()
def _losses(
    model: Transformer,
    task: Task,
    store: TokenStore,
    split: str,
    precision: str,
    process_group: ProcessGroup,
) -> tuple[LossSums, LossCounts]:
    """Losses summed over a split in float64, and the counts to divide them by."""
    device = model.embedding.weight.device
    model.eval()
    batches = HeldOutDataset(task.layout.dataset(store, split, None), batch_size(task.context))

    def losses(number: int) -> tuple[LossSums, LossCounts]:
        batch = batches[number].to(device)
        with autocast(precision, device):
            sums = model.loss(**batch.inputs())
        return LossSums(*(part.double().cpu() for part in sums)), batch.counts

    parts = _shared(len(batches), losses, f"{split} loss", process_group)
    return reduce(LossSums.plus, (sums for sums, _ in parts)), reduce(
        LossCounts.plus, (counts for _, counts in parts)
    )


def _shared(
    count: int, compute: Callable[[int], Found], doing: str, process_group: ProcessGroup
) -> list[Found]:
    """compute(0), ... compute(count - 1), each on one rank, all of them known to every rank."""
    mine = range(process_group.rank, count, process_group.size)
    parts = process_group.all_gather(
        {number: compute(number) for number in track_progress(mine, doing, "batches", len(mine))}
    )
    everything = {number: found for part in parts for number, found in part.items()}
    return [everything[number] for number in range(count)]
