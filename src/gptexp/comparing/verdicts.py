"""The verdict on a metric of two subjects, by the best test that their runs allow."""

from collections.abc import Sequence

from gptexp.comparing.comparability import explain_incomparable
from gptexp.comparing.paired_scores import read_scores
from gptexp.comparing.run_records import RunRecords
from gptexp.statistics.summary import LEVEL
from gptexp.statistics.verdict import Verdict, compare_examples, compare_runs, compare_seeds

MIN_BATCHES = 20  # of a loss; fewer do not show how much the loss depends on the text


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
    over examples, which speaks of these two models.

    Args:
        margin: smallest difference of interest.
        level: probability of a wrong word if there is no difference.
    """
    first, second = ([run for run in runs if metric in run.metrics] for runs in (first, second))
    if not (first and second):
        return "not measured in both"
    for run in [*first[1:], *second]:
        if reason := explain_incomparable(first[0], run, metric):
            return f"not comparable: {reason}"
    is_paired = _have_same_seeds(first, second)
    if is_paired:
        first, second = (sorted(runs, key=lambda run: str(run.seed)) for runs in (first, second))
    scores = read_scores(first, second, metric)
    if min(len(first), len(second)) == 1:
        if max(len(first), len(second)) > 1:
            return "one of the two has a single run: repeat its command with seeds=3"
        if metric.endswith("/perplexity"):
            return "it follows from the loss"
        if scores is None:
            return "one run each, and no scores of single examples: repeat both with seeds=3"
        return compare_examples(
            scores.first[0],
            scores.second[0],
            scores.groups,
            higher_is_better=higher_is_better,
            margin=margin,
            level=level,
            unit=scores.unit,
        )
    if scores is not None and (scores.unit == "example" or len(scores.groups) >= MIN_BATCHES):
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
        [run.metrics[metric] for run in first],
        [run.metrics[metric] for run in second],
        higher_is_better=higher_is_better,
        paired=is_paired,
        margin=margin,
        level=level,
    )


def _have_same_seeds(first: Sequence[RunRecords], second: Sequence[RunRecords]) -> bool:
    seeds = [sorted(str(run.seed) for run in runs) for runs in (first, second)]
    return seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0]) > 1
