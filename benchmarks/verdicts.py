"""Simulate runs, and count how often a verdict is wrong and how often it sees a true difference.

    python benchmarks/verdicts.py
    python benchmarks/verdicts.py --draws 200 --only sweep

Each row of the table is a situation with 2,000 draws, so that a percentage is off by about a point; with 20,000 where a
draw is quick. Without a difference, any "better" or "worse" is wrong. With one, the power is the share of
comparisons between truly different sides that are told apart the right way around. Differences are in standard
deviations of the noise of one run, or of one score where the rows are examples.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptexp.statistics.configs import compare_configs
from gptexp.statistics.verdict import compare_examples, compare_runs, compare_seeds

Outcome = list[tuple[str, str]]  # of each comparison: the word, and the word that is right
Draw = Callable[[np.random.Generator, float], Outcome]


@dataclass
class Situation:
    name: str
    draw: Draw
    differences: tuple[float, ...]
    share: float = 1.0  # of --draws


def draw_normal(rng: np.random.Generator, count: int) -> NDArray:
    return rng.normal(size=count)


def draw_outliers(rng: np.random.Generator, count: int) -> NDArray:
    """One run in ten goes badly wrong."""
    return rng.normal(size=count) - 10 * (rng.random(count) < 0.1)


def draw_accuracy(rng: np.random.Generator, count: int) -> NDArray:
    """Right answers out of 50, in standard deviations: few distinct values."""
    return rng.binomial(50, 0.5, size=count) / np.sqrt(12.5)


def right_word(difference: float) -> str:
    return "better" if difference > 0 else "cannot tell"


def two_configs(
    count: int,
    noise: Callable[[np.random.Generator, int], NDArray] = draw_normal,
    is_paired: bool = True,
) -> Draw:
    """Two configs with `count` seeds each; paired seeds share half of the variance."""

    def draw(rng: np.random.Generator, difference: float) -> Outcome:
        shared = rng.normal(size=count) if is_paired else np.zeros(count)
        a, b = noise(rng, count) + shared, noise(rng, count) + shared + difference
        verdict = compare_seeds(a, b, higher_is_better=True, paired=is_paired)
        return [(verdict.word, right_word(difference))]

    return draw


def sweep(
    configs: int,
    count: int,
    deviations: Sequence[float] = (1.0,),
    is_named: bool = False,
    spends: bool = False,
) -> Draw:
    """A sweep whose first config is better by the difference.

    Args:
        deviations: of the noise of the configs, in turns.
        is_named: the others are compared with the first config, instead of the best.
        spends: after one seed of each, further seeds go to the best and to those that cannot be told from it, one
            config after another, as sweeps with seeds_for=undecided spend them.
    """
    scales = np.resize(np.array(deviations), configs)[:, None]

    def draw(rng: np.random.Generator, difference: float) -> Outcome:
        values = rng.normal(size=(configs, count)) * scales + rng.normal(size=count)
        values[0] += difference
        seeds = np.full(configs, 1 if spends else count)
        while True:
            table = np.where(np.arange(count) < seeds[:, None], values, np.nan)
            result = compare_configs(
                table,
                higher_is_better=True,
                reference=0 if is_named else None,
                looks=count - 1 if spends else 1,
            )
            best = result.reference
            undecided = [i for i, v in result.verdicts.items() if v.word == "cannot tell"]
            undecided.sort(key=lambda i: -np.nanmean(table[i]))
            waiting = [i for i in [best, *undecided] if seeds[i] < count] if undecided else []
            if not waiting:
                break
            seeds[waiting[0]] += 1
        outcome = []
        for config, verdict in result.verdicts.items():
            truth = "worse" if best == 0 else "better" if config == 0 else "cannot tell"
            outcome.append((verdict.word, truth if difference else "cannot tell"))
        return outcome

    return draw


def two_models(
    count: int = 200, groups: int = 120, is_right_or_wrong: bool = False, changed: float = 1.0
) -> Draw:
    """Two runs, by their scores of the same examples, of which those of a group are near-duplicates.

    Args:
        is_right_or_wrong: scores are 0 or 1.
        changed: the share of the groups that the two models answer differently.
    """

    def draw(rng: np.random.Generator, difference: float) -> Outcome:
        labels = rng.integers(0, groups, count)

        def by_group() -> NDArray:
            return (rng.normal(size=groups)[labels] + rng.normal(size=count)) / np.sqrt(2)

        hard, a = by_group(), by_group()
        b = np.where((rng.random(groups) < changed)[labels], by_group() + difference, a)
        a, b = hard + a, hard + b
        if is_right_or_wrong:
            a, b = (a > 0) * 1.0, (b > 0) * 1.0
        verdict = compare_examples(a, b, labels.tolist(), higher_is_better=True)
        return [(verdict.word, right_word(difference))]

    return draw


def seeds_and_examples(
    count: int, parts: tuple[float, float, float], is_paired: bool = True, groups: int = 120
) -> Draw:
    """Two configs by their scores of 200 examples in groups.

    Args:
        parts: standard deviations of the difference between seeds, between groups, and of single scores.
    """
    of_seed, of_group, of_score = parts

    def draw(rng: np.random.Generator, difference: float) -> Outcome:
        labels = rng.integers(0, groups, 200)
        hard = rng.normal(size=200)
        a, b = (
            hard
            + rng.normal(0, of_seed / np.sqrt(2), (count, 1))
            + rng.normal(0, of_score / np.sqrt(2), (count, 200))
            for _ in range(2)
        )
        b = b + rng.normal(0, of_group, groups)[labels] + difference
        verdict = compare_runs(a, b, labels.tolist(), higher_is_better=True, paired=is_paired)
        return [(verdict.word, right_word(difference))]

    return draw


SITUATIONS = [
    Situation("3 paired seeds", two_configs(3), (0, 2, 4), share=10),
    Situation("5 paired seeds", two_configs(5), (0, 2, 4), share=10),
    Situation("10 paired seeds", two_configs(10), (0, 1, 2), share=10),
    Situation("3 seeds, not paired", two_configs(3, is_paired=False), (0, 2, 4), share=10),
    Situation(
        "3 paired seeds, one run in ten goes wrong", two_configs(3, draw_outliers), (0, 4), share=10
    ),
    Situation(
        "3 paired seeds, 50 right or wrong answers", two_configs(3, draw_accuracy), (0, 4), share=10
    ),
    Situation(
        "5 paired seeds, 50 right or wrong answers", two_configs(5, draw_accuracy), (0, 4), share=10
    ),
    Situation(
        "sweep: 6 configs, 3 seeds, against a named one", sweep(6, 3, is_named=True), (0, 2, 4)
    ),
    Situation("sweep: 6 configs, 3 seeds", sweep(6, 3), (0, 2, 4)),
    Situation("sweep: 12 configs, 3 seeds", sweep(12, 3), (0, 2, 4)),
    Situation("sweep: 12 configs, 2 seeds", sweep(12, 2), (0, 4)),
    Situation(
        "sweep: 12 configs, 1 to 3 seeds, where the verdict is open",
        sweep(12, 3, spends=True),
        (0, 4),
    ),
    Situation(
        "sweep: 3 configs, 1 to 5 seeds, where the verdict is open",
        sweep(3, 5, spends=True),
        (0, 2, 4),
    ),
    Situation("sweep: 12 configs, 3 seeds, noise of 1 and 2", sweep(12, 3, (1, 2)), (0, 4)),
    Situation(
        "sweep: 12 configs, 3 seeds, one with a noise of 5", sweep(12, 3, (5, *[1] * 11)), (0, 4)
    ),
    Situation(
        "sweep: 12 configs, 5 seeds, one with a noise of 5", sweep(12, 5, (5, *[1] * 11)), (0, 4)
    ),
    Situation(
        "sweep: 12 configs, 3 seeds, one with a noise of 2.5",
        sweep(12, 3, (2.5, *[1] * 11)),
        (0, 4),
    ),
    Situation("2 models, 200 examples", two_models(), (0, 0.25, 0.5)),
    Situation(
        "2 models, 200 right or wrong answers", two_models(is_right_or_wrong=True), (0, 0.25, 0.5)
    ),
    Situation(
        "2 models, 200 right or wrong answers, one in 20 differs",
        two_models(is_right_or_wrong=True, changed=0.05),
        (0, 4),
    ),
    Situation("2 models, 20 examples in 12 groups", two_models(20, 12), (0, 0.5, 1)),
    Situation(
        "3 seeds, 200 examples: seeds differ most",
        seeds_and_examples(3, (0.3, 0.3, 1)),
        (0, 0.25, 0.5),
    ),
    Situation(
        "3 seeds, 200 examples: examples differ most",
        seeds_and_examples(3, (0.03, 1, 1)),
        (0, 0.25, 0.5),
    ),
    Situation(
        "3 seeds, 200 examples: scores are noisy", seeds_and_examples(3, (0, 0, 2)), (0, 0.25, 0.5)
    ),
    Situation(
        "3 seeds, not paired, 200 examples",
        seeds_and_examples(3, (0.2, 0.5, 1), False),
        (0, 0.25, 0.5),
    ),
    Situation(
        "3 seeds, 200 examples in 3 groups", seeds_and_examples(3, (0.03, 1, 1), groups=3), (0, 2)
    ),
    Situation(
        "3 seeds, 200 examples in 8 groups",
        seeds_and_examples(3, (0.03, 1, 1), groups=8),
        (0, 1, 2),
    ),
    Situation("5 seeds, 200 examples", seeds_and_examples(5, (0.2, 0.5, 1)), (0, 0.25, 0.5)),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000, help="of each row (default: 2000)")
    parser.add_argument("--only", default="", help="situations whose name has this text")
    args = parser.parse_args()
    print("| situation | draws | difference | wrong, % | power, % |\n|---|---|---|---|---|")
    start = time.process_time()
    for situation in SITUATIONS:
        if args.only in situation.name:
            for difference in situation.differences:
                draws = round(args.draws * situation.share)
                wrong, power = simulate(situation.draw, difference, draws)
                seen = "" if power is None else f"{power:.0f}"
                print(
                    f"| {situation.name} | {draws} | {difference:g} | {wrong:.1f} | {seen} |",
                    flush=True,
                )
    print(f"\n{time.process_time() - start:.0f} s of one processor")


def simulate(draw: Draw, difference: float, draws: int) -> tuple[float, float | None]:
    """Return the percentage of draws with a wrong word, and that of true differences that are seen."""
    rng = np.random.default_rng(1)
    wrong, seen, true = 0, 0, 0
    for _ in range(draws):
        outcome = draw(rng, difference)
        wrong += any(word not in ("cannot tell", truth) for word, truth in outcome)
        differing = [word == truth for word, truth in outcome if truth != "cannot tell"]
        seen, true = seen + sum(differing), true + len(differing)
    return 100 * wrong / draws, 100 * seen / true if true else None


if __name__ == "__main__":
    main()
