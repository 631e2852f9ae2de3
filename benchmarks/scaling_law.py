"""How often does the interval of a predicted loss cover the run that comes, and how wide is it?

    python benchmarks/scaling_law.py

Draws 500 ladders for each line of the table from a law with a floor, predicts the next rung, and draws its run. About
two minutes of one core.
"""

import argparse

import numpy as np

from gptexp.statistics.scaling_law import PowerLaw, predict_loss

# The sizes of sweeps/ladder.yaml, and a law that its losses could follow.
COMPUTE = np.array([3.16e12, 7.01e12, 1.69e13, 3.55e13, 8.05e13])
NEXT = 1.62e14
LAW = PowerLaw(floor=2.0, scale=2.1, exponent=0.16, unit=1.2e13)
SETTINGS = [
    (4, 1, 0.002),
    (4, 2, 0.002),
    (4, 2, 0.005),
    (5, 1, 0.002),
    (5, 2, 0.002),
    (5, 2, 0.005),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ladders", type=int, default=500, help="ladders a line (500)")
    ladders = parser.parse_args().ladders
    print(
        "| rungs | seeds | noise of a run | interval covers | half width | error | as the last rung |"
    )
    print("|---|---|---|---|---|---|---|")
    for rungs, seeds, noise in SETTINGS:
        covered, widths, errors = 0, [], []
        sizes = np.repeat(COMPUTE[-rungs:], seeds)
        for number in range(ladders):
            random = np.random.default_rng(number)
            drawn = 1 + noise * random.standard_normal(len(sizes) + 1)
            losses = [LAW.loss(x) * factor for x, factor in zip([*sizes, NEXT], drawn, strict=True)]
            prediction = predict_loss(sizes.tolist(), losses[:-1], NEXT, seed=number)
            covered += prediction.low <= losses[-1] <= prediction.high
            widths.append((prediction.high - prediction.low) / 2 / prediction.loss)
            errors.append(abs(prediction.loss / losses[-1] - 1))
        last = LAW.loss(COMPUTE[-1]) / LAW.loss(NEXT) - 1
        print(
            f"| {rungs} | {seeds} | {100 * noise:g} % | {100 * covered / ladders:.0f} % | "
            f"{100 * np.median(widths):.1f} % | {100 * np.median(errors):.1f} % | {100 * last:.1f} % |"
        )


if __name__ == "__main__":
    main()
