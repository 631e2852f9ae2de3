"""The held-out examples on which one subject wins and loses against another."""

from collections.abc import Sequence
from dataclasses import dataclass

from gptexp.comparing.run_records import RunRecords, split_name, split_of

SHOWN = 3  # of the largest wins, and of the largest losses


@dataclass(frozen=True)
class ExampleDifference:
    """One held-out example with the outputs and scores of both subjects; of several runs, the first output."""

    id: str
    group: str  # equal for near-duplicates
    input: str
    reference: str
    outputs: tuple[str, str]
    scores: tuple[float, float]  # means over the runs
    difference: float  # of the scores, positive where the second subject wins


@dataclass(frozen=True)
class ExampleComparison:
    """The second subject against the first, example by example."""

    metric: str
    wins: int
    losses: int
    ties: int
    largest_wins: list[ExampleDifference]
    largest_losses: list[ExampleDifference]


def compare_outputs(
    first: Sequence[RunRecords], second: Sequence[RunRecords], metric: str, higher_is_better: bool
) -> ExampleComparison | None:
    """Compare the scores of a metric on the examples that all runs share; None where runs keep no such scores."""
    split, leaf = split_of(metric), split_name(metric)[1]
    sides = [
        [run.scored_rows(split, "example", leaf) for run in runs if metric in run.metrics]
        for runs in (first, second)
    ]
    if not all(sides):
        return None
    ids = [id for id in sides[0][0] if all(id in rows for side in sides for rows in side)]
    if not ids:
        return None
    differences = []
    for id in ids:
        scores = [sum(rows[id]["scores"][leaf] for rows in side) / len(side) for side in sides]
        rows = [side[0][id] for side in sides]
        gain = scores[1] - scores[0]
        differences.append(
            ExampleDifference(
                id,
                str(rows[0].get("group", id)),
                str(rows[0].get("input", "")),
                str(rows[0].get("reference", "")),
                (str(rows[0].get("output", "")), str(rows[1].get("output", ""))),
                (scores[0], scores[1]),
                gain if higher_is_better else -gain,
            )
        )
    differences.sort(key=lambda example: example.difference)
    wins = [example for example in differences if example.difference > 0]
    losses = [example for example in differences if example.difference < 0]
    return ExampleComparison(
        metric,
        len(wins),
        len(losses),
        len(ids) - len(wins) - len(losses),
        _one_a_group(wins[::-1]),
        _one_a_group(losses),
    )


def _one_a_group(examples: list[ExampleDifference]) -> list[ExampleDifference]:
    """Return the first examples, but one of each group: near-duplicates tell the same."""
    by_group: dict[str, ExampleDifference] = {}
    for example in examples:
        by_group.setdefault(example.group, example)
    return list(by_group.values())[:SHOWN]
