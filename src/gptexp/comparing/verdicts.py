"""The verdict on a metric of two subjects, by the best test that their runs allow."""

import math
from collections.abc import Sequence

from gptexp.comparing.comparability import OF_LOSS, explain_incomparable
from gptexp.comparing.paired_scores import MIN_BATCHES, read_scores
from gptexp.comparing.run_records import RunRecords, split_name
from gptexp.statistics.summary import LEVEL
from gptexp.statistics.verdict import Verdict, compare_runs, compare_seeds


def judge_metric(
    first: Sequence[RunRecords],
    second: Sequence[RunRecords],
    metric: str,
    higher_is_better: bool,
    margin: float = 0.0,
    level: float = LEVEL,
) -> Verdict | str:
    """Return the verdict on the second subject against the first, or why there is none.

    Several seeds each: a test over seeds, and over examples where runs keep scores of this metric. One run each: a test
    over examples, which speaks of these two models. Runs that failed count as seeds without a value.

    Args:
        margin: smallest difference of interest.
        level: probability of a wrong word if there is no difference.
    """
    first, second = (
        [run for run in runs if metric in run.metrics or run.result.get("status") == "failed"]
        for runs in (first, second)
    )
    measured = [[run for run in runs if metric in run.metrics] for runs in (first, second)]
    if not all(measured):
        return "not measured in both"
    for run in [*measured[0][1:], *measured[1]]:
        if reason := explain_incomparable(measured[0][0], run, metric):
            return f"not comparable: {reason}"
    is_paired = _have_same_seeds(first, second) and _have_common_seeds(*measured)
    if is_paired:
        first, second = (sorted(runs, key=lambda run: str(run.seed)) for runs in (first, second))
    scores = read_scores(first, second, metric)
    counts = sorted(map(len, measured))
    if counts[0] == 1:
        if counts[1] > 1:
            return "one of the two has a single finished run: repeat its command with seeds=3"
        if metric.endswith("/perplexity"):
            return "it follows from the loss"
        if scores is None:
            is_loss = split_name(metric)[1] in OF_LOSS
            units = f"{MIN_BATCHES} or more batches" if is_loss else "single examples"
            return (
                f"one run each, and no scores of {units} that both have: repeat both with seeds=3"
            )
    if scores is not None:
        return compare_runs(
            scores.first,
            scores.second,
            scores.groups,
            higher_is_better=higher_is_better,
            paired=is_paired,
            margin=margin,
            level=level,
            unit=scores.unit,
        )
    return compare_seeds(
        [run.metrics.get(metric, math.nan) for run in first],
        [run.metrics.get(metric, math.nan) for run in second],
        higher_is_better=higher_is_better,
        paired=is_paired,
        margin=margin,
        level=level,
    )


def _have_same_seeds(first: Sequence[RunRecords], second: Sequence[RunRecords]) -> bool:
    seeds = [sorted(str(run.seed) for run in runs) for runs in (first, second)]
    return seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0]) > 1


def _have_common_seeds(first: Sequence[RunRecords], second: Sequence[RunRecords]) -> bool:
    """Return whether pairs of runs show a noise: there are two or more."""
    return len({str(run.seed) for run in first} & {str(run.seed) for run in second}) > 1
