"""The held-out loss of each source of a mixture, and the mean of the sources by weight."""

from typing import TYPE_CHECKING

from gptexp.data.loader import HeldOutDataset, MixedHeldOutDataset
from gptexp.data.mixed_store import MixedStore
from gptexp.data.token_store import TokenStore
from gptexp.tasks.task import Task

if TYPE_CHECKING:
    from gptexp.training.evaluation import BatchLosses


def loss_metrics(
    task: Task, store: TokenStore, split: str, batches: HeldOutDataset, losses: "BatchLosses"
) -> dict[str, float]:
    """Return the metrics of a split that follow from its losses.

    In a mixture they are those of each source, under its name, and their means by weight. A mean of perplexities means
    nothing, and is left out.
    """
    if not (isinstance(store, MixedStore) and isinstance(batches, MixedHeldOutDataset)):
        return task.loss_metrics(store, split, *losses.total())
    by_source = {
        name: task.loss_metrics(store.sources[name], split, *losses.select(numbers).total())
        for name, numbers in batches.batches_of_sources().items()
    }
    shared = set.intersection(*map(set, by_source.values()))
    metrics = {
        key: sum(batches.weights[name] * own[key] for name, own in by_source.items())
        for key in next(iter(by_source.values()))
        if key in shared and not key.endswith("perplexity")
    }
    for name, own in by_source.items():
        metrics |= {f"{name}/{key}": value for key, value in own.items()}
    return metrics


def weighted_losses(losses: "BatchLosses", batches: HeldOutDataset) -> dict[str, float]:
    """Return the mean loss of held-out batches as `loss`; in a mixture also NAME/loss, of which it is the mean."""
    if not isinstance(batches, MixedHeldOutDataset):
        sums, counts = losses.total()
        return {"loss": float(sums.mean(counts))}
    by_source = {}
    for name, numbers in batches.batches_of_sources().items():
        sums, counts = losses.select(numbers).total()
        by_source[name] = float(sums.mean(counts))
    mean = sum(batches.weights[name] * loss for name, loss in by_source.items())
    return {"loss": mean, **{f"{name}/loss": loss for name, loss in by_source.items()}}
