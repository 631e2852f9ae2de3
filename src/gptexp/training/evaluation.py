"""Evaluate a model on a held-out split: its loss, and the scores of its answers next to the baseline."""

import math
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from gptexp.data.batch import Batch
from gptexp.data.loader import HeldOutDataset, held_out_batches
from gptexp.data.progress import track_progress
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import allow_cudnn_attention, autocast
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import compute_device
from gptexp.errors import OutOfMemoryError
from gptexp.generation.gpu_decoder import count_fitting_rows, is_on_gpu
from gptexp.loss import LossCounts, LossSums
from gptexp.model import Transformer
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.task import Task, drop_undefined, means
from gptexp.training.example_groups import example_groups, example_ids
from gptexp.training.micro_batches import loss_inputs
from gptexp.training.out_of_memory import is_out_of_memory
from gptexp.training.source_losses import loss_metrics

BATCH_SIZE, BATCH_TOKENS = 32, 1 << 14  # largest batch of a held-out pass
SINGLE_PROCESS = ProcessGroup()
METRIC_PREFIX = {
    "unseen": "test/unseen",
    "unsupported": "test/unsupported",
    "all": "test/all",  # the test split and `unsupported`
}  # of a split's metrics, where it is not the split's name
BOOTSTRAP_SAMPLES = 2000
FEW_EXAMPLES, FEW_TARGETS = 10, 1000  # fewer say little about a model
Value = TypeVar("Value")


@dataclass
class Answers:
    """Held-out examples and a model's outputs for them."""

    examples: list[EvalExample]
    outputs: list[Any]

    def __add__(self, other: "Answers") -> "Answers":
        return Answers(self.examples + other.examples, self.outputs + other.outputs)


@dataclass
class BatchLosses:
    """The losses of the batches of a held-out split: B batches, S statistics of the model."""

    sums: Tensor  # [B, 3 + S] float64
    counts: Tensor  # [B, 3] int64

    def total(self) -> tuple[LossSums, LossCounts]:
        """Return the sums over all batches, added in a fixed order, and the counts to divide them by."""
        return _loss_sums(reduce(torch.add, self.sums)), LossCounts(
            *self.counts.sum(dim=0).tolist()
        )

    def select(self, numbers: slice) -> "BatchLosses":
        """Return the losses of some of the batches."""
        return BatchLosses(self.sums[numbers], self.counts[numbers])

    def means(self) -> list[float]:
        """Return the mean loss of each batch."""
        counts = [LossCounts(*row) for row in self.counts.tolist()]
        sums = map(_loss_sums, self.sums)
        return [float(total.mean(count)) for total, count in zip(sums, counts, strict=True)]


@dataclass
class Evaluation:
    prefix: str  # of the metrics: "test", "test/unseen"
    metrics: dict[str, float]  # test/loss, test/rougeL, test/baseline/rougeL, test/low/rougeL, ...
    answers: Answers
    baseline: str  # description of the strongest baseline
    remarks: list[str]  # sentences about what the split cannot tell
    scores: dict[str, list[float]] = field(default_factory=dict)  # of each answer, by metric
    groups: list[str] = field(default_factory=list)  # of each scored answer; equal: near-duplicates
    losses: BatchLosses | None = None

    def samples(self, task: Task) -> list[dict[str, Any]]:
        """Return the first answers with their inputs and references, as a run keeps and shows them."""
        pairs = zip(self.answers.examples, self.answers.outputs, strict=True)
        return [task.sample(*pair) for pair in islice(pairs, task.config.samples)]


def held_out_batch_size(context: int) -> int:
    return max(1, min(BATCH_SIZE, BATCH_TOKENS // context))


def evaluate(
    model: Transformer,
    task: Task,
    store: TokenStore,
    split: str,
    precision: str = "32",
    process_group: ProcessGroup = SINGLE_PROCESS,
    with_loss: bool = True,
    max_tokens: int | None = None,
) -> Evaluation:
    """Return the metrics of a split ("val", "test" or "unseen") and the answers that they score.

    Args:
        precision: trainer.precision, for the loss; answers are computed in fp32.
        with_loss: whether to compute the loss, too.
        max_tokens: tokens of the split that the loss is computed from; None: all of them.
    """
    allow_cudnn_attention(False)  # batches and answers have ever new lengths
    metrics: dict[str, float] = {}
    remarks: list[str] = []
    losses: BatchLosses | None = None
    if with_loss:
        batch_size = held_out_batch_size(task.context)
        batches = held_out_batches(task.layout, store, split, batch_size, max_tokens)
        losses = compute_batch_losses(model, batches, precision, process_group, f"{split} loss")
        sums, counts = losses.total()
        metrics = loss_metrics(task, store, split, batches, losses) | model.report(sums.statistics)
    model.eval()
    answers = answer_examples(model, task, store, split, process_group)
    evaluation = score_answers(task, store, answers, split)
    evaluation.losses = losses
    if with_loss:
        examples = answers.examples if task.metrics else None
        remarks = describe_split(split, examples, counts.targets)
        if batches.is_sample:
            metrics["targets"] = counts.targets
            remarks.append(
                f"the loss of the {split} split is of {batches.count:,} of its {batches.total:,} "
                f"sequences, as task.test_tokens={max_tokens} says"
            )
    evaluation.metrics = _prefixed(metrics, evaluation.prefix) | evaluation.metrics
    evaluation.remarks = remarks + evaluation.remarks
    return evaluation


def answer_examples(
    model: Transformer,
    task: Task,
    store: TokenStore,
    split: str,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Answers:
    """Return the model's outputs for the examples of a split that are scored, or shown where none are.

    The split `unsupported` is scored together with the test split: the same fraction of both is answered.
    """
    count = task.config.test_examples if task.metrics else task.config.samples
    if split == "unsupported" and count and store.has("test"):
        tested, total = (store.meta["splits"][name]["sequences"] for name in ("test", split))
        count = max(1, round(total * min(1.0, count / tested)))
    examples: list[EvalExample] = []
    if count or task.metrics:
        examples = list(task.layout.eval_examples(store, split, count))
    inputs = [example.input for example in examples]
    return Answers(
        examples,
        compute_outputs(
            model, task, store.tokenizer, inputs, process_group, f"answering {split} examples"
        ),
    )


def score_answers(task: Task, store: TokenStore, answers: Answers, split: str) -> Evaluation:
    """Return the metrics of answers, with their intervals and those of the strongest baseline."""
    examples, outputs = answers.examples, answers.outputs
    metrics = task.prepare_metrics(store, examples)
    baseline, remarks = task.loss_baseline, []
    each: dict[str, list[float]] = {}
    groups: list[str] = []
    if task.metrics:
        groups = example_groups(examples, example_ids(examples), task.layout)
        each, overall = task.score_each(outputs, examples), task.score_all(outputs, examples)
        metrics |= means(each) | bootstrap_intervals(each, groups) | drop_undefined(overall)
        remarks = task.describe_undefined(
            each | {name: [value] for name, value in overall.items()}, split
        )
        strongest, naive = task.score_baselines(examples)
        baseline = baseline or strongest
        metrics |= {f"baseline/{name}": value for name, value in naive.items()}
    prefix = METRIC_PREFIX.get(split, split)
    return Evaluation(prefix, _prefixed(metrics, prefix), answers, baseline, remarks, each, groups)


def _prefixed(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def describe_split(split: str, examples: list[EvalExample] | None, targets: int) -> list[str]:
    """Return sentences about a held-out split that is too small, or too uniform, to compare models on.

    Args:
        examples: those that are scored; None: the task measures its loss only.
        targets: predicted tokens of the split.
    """
    if examples is None:
        if targets >= FEW_TARGETS:
            return []
        return [
            f"the {split} split has only {targets:,} tokens to predict: its loss says little; give more data"
        ]
    remarks = []
    if len(examples) < FEW_EXAMPLES:
        remarks.append(
            f"only {len(examples)} examples of the {split} split are scored: metrics of so few say little, and no "
            f"interval is shown"
        )
    references = [
        str(example.reference) for example in examples if isinstance(example.reference, str)
    ]
    if len(references) > 1 and len(set(references)) == 1:
        remarks.append(
            f"all {len(references)} references of the {split} split are the same text, {references[0]!r:.60}: "
            f"a constant answer has the best score"
        )
    return remarks


@torch.no_grad()  # inference mode does not suit FSDP, nor gradients that follow
def compute_batch_losses(
    model: Transformer,
    batches: HeldOutDataset,
    precision: str,
    process_group: ProcessGroup = SINGLE_PROCESS,
    description: str | None = None,
) -> BatchLosses:
    """Compute the losses of all batches in float64, and return them on every rank.

    Ranks share the batches, which do not depend on the number of ranks, and neither does the result, to the bit.

    Args:
        description: label of the progress bar; None: no progress is shown.
    """
    device = compute_device(model.embedding.weight)
    ranks = process_group.data_size
    was_training = model.training
    model.eval()
    sums: dict[int, Tensor] = {}
    counts = torch.zeros(len(batches), len(LossCounts._fields), dtype=torch.int64, device=device)
    # A sharded model computes on all ranks together: one without a batch of its own repeats the first.
    rounds: Iterable[int] = range(math.ceil(len(batches) / ranks))
    if description:
        rounds = track_progress(rounds, description, "batches", math.ceil(len(batches) / ranks))
    for number in rounds:
        index = number * ranks + process_group.data_rank
        batch = batches[index if index < len(batches) else 0]
        values = _sum_losses(model, batch, precision)
        if index < len(batches) and process_group.counts_tokens:
            sums[index] = values
        if index < len(batches) and process_group.counts_sequences:
            counts[index] = torch.tensor(batch.counts, device=device)
    model.train(was_training)
    table = torch.zeros(len(batches), len(values), dtype=torch.float64, device=device)
    for index, values in sums.items():
        table[index] = values
    process_group.all_reduce(table)
    process_group.all_reduce(counts)
    return BatchLosses(table.cpu(), counts.cpu())


def _loss_sums(values: Tensor) -> LossSums:
    """Return the losses that a row [3 + S] of BatchLosses holds."""
    targets, labels, auxiliary, *statistics = values
    return LossSums(targets, labels, auxiliary, torch.tensor(statistics))


def _sum_losses(model: Transformer, batch: Batch, precision: str) -> Tensor:
    """Return [3 + statistics]: the losses of a batch in float64. If memory is short, compute it in two parts."""
    device = compute_device(model.embedding.weight)
    try:
        inputs = move_data_to_device(loss_inputs(model, batch, device), device)
        with autocast(precision, device):
            losses = model.loss(**inputs)
        return torch.cat([part.double().flatten() for part in losses])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(batch) == 1:
            raise
    half = len(batch) // 2
    if isinstance(model, FSDPModule):  # all ranks have to make equally many passes
        raise OutOfMemoryError(half)
    torch.cuda.empty_cache()
    parts = batch.split(len(batch) - half)
    return reduce(torch.add, [_sum_losses(model, part, precision) for part in parts])


def answer_batch_size(model: Transformer, inputs: int, ranks: int, num_beams: int = 1) -> int:
    """Return how many inputs are answered at once: on a GPU more, as long as each rank has a share of them.

    Each beam of an input is a sequence with a cache of its own.
    """
    if not is_on_gpu(model):
        return BATCH_SIZE
    fitting = count_fitting_rows(model.config, model.config.context)
    sequences = max(BATCH_SIZE, min(fitting, math.ceil(inputs / ranks) * num_beams))
    return max(1, sequences // num_beams)


def compute_outputs(
    model: Transformer,
    task: Task,
    tokenizer: Tokenizer,
    inputs: list[Any],
    process_group: ProcessGroup = SINGLE_PROCESS,
    description: str = "answering",
) -> list[Any]:
    """Return the model's output for each input. Inputs of similar length are computed together.

    Ranks share the inputs. Those with a sharded model compute all of them, since they gather its weights together.
    """
    if isinstance(model, FSDPModule):
        model.unshard()  # the embedding and the head; each block gathers its own weights
        process_group = SINGLE_PROCESS
    lengths = [len(item) if isinstance(item, Sized) else 0 for item in inputs]
    order = sorted(range(len(inputs)), key=lengths.__getitem__)
    size = answer_batch_size(model, len(inputs), process_group.size, task.answerer.num_beams)
    groups = [order[start : start + size] for start in range(0, len(order), size)]

    def answer(number: int) -> list[Any]:
        return _answer(model, task, tokenizer, [inputs[i] for i in groups[number]])

    outputs: dict[int, Any] = {}
    answered = _map_over_ranks(answer, len(groups), description, process_group)
    for group, values in zip(groups, answered, strict=True):
        outputs |= dict(zip(group, values, strict=True))
    return [outputs[i] for i in range(len(inputs))]


def _answer(model: Transformer, task: Task, tokenizer: Tokenizer, inputs: list[Any]) -> list[Any]:
    """Return the model's output for each input. If memory is short, compute them in two parts."""
    try:
        return task.answerer.answer(model, tokenizer, inputs)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(inputs) == 1 or isinstance(model, FSDPModule):
            raise
    torch.cuda.empty_cache()
    half = len(inputs) // 2
    return [
        output
        for part in (inputs[:half], inputs[half:])
        for output in _answer(model, task, tokenizer, part)
    ]


def bootstrap_intervals(scores: dict[str, list[float]], groups: Sequence[str]) -> dict[str, float]:
    """Return low/NAME and high/NAME: bounds of the 95 % bootstrap interval of each mean (Efron 1979).

    Groups of examples are drawn, since near-duplicates are not independent. Few groups, or values that are all the
    same, say nothing about the spread: they get no interval.
    """
    _, labels = np.unique(np.array(groups), return_inverse=True)
    _, first = np.unique(labels, return_index=True)
    labels = np.argsort(np.argsort(first))[labels]  # groups count in the order of their examples
    bounds: dict[str, float] = {}
    for name, values in scores.items():
        rng, array = np.random.default_rng(0), np.array(values)
        defined = ~np.isnan(array)
        array = array[defined]
        sizes = np.bincount(labels[defined])
        if np.count_nonzero(sizes) < FEW_EXAMPLES or np.ptp(array) == 0:
            continue
        sums = np.bincount(labels[defined], array)[sizes > 0]
        sizes = sizes[sizes > 0]
        samples = []
        for _ in range(BOOTSTRAP_SAMPLES):
            drawn = rng.integers(len(sums), size=len(sums))
            samples.append(sums[drawn].sum() / sizes[drawn].sum())
        low, high = np.quantile(samples, (0.025, 0.975))
        bounds |= {f"low/{name}": float(low), f"high/{name}": float(high)}
    return bounds


def _map_over_ranks(
    function: Callable[[int], Value], count: int, description: str, process_group: ProcessGroup
) -> list[Value]:
    """Return function(0), ... function(count - 1) on every rank; each is computed on one rank."""
    numbers = range(process_group.rank, count, process_group.size)
    parts = process_group.all_gather(
        [
            function(number)
            for number in track_progress(numbers, description, "batches", len(numbers))
        ]
    )
    return [
        parts[number % process_group.size][number // process_group.size] for number in range(count)
    ]
