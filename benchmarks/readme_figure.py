"""Draw the curves in the README from real runs: docs/images/translate.png.

python -m gptexp.run -m task=translate seed=1,2,3
python benchmarks/readme_figure.py outputs/translate-nano-*      (needs matplotlib)
"""

import argparse
from pathlib import Path

from gptexp.runs.run_folder import RunFolder

COLORS = ("#2f6f4f", "#2f4f8f", "#8f4f2f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/translate.png"))
    arguments = parser.parse_args()

    import matplotlib.pyplot as plt  # no dependency of gptexp

    figure, axes = plt.subplots(figsize=(8, 3.2), dpi=144)
    folders = sorted(map(RunFolder, arguments.runs), key=lambda folder: folder.config().seed)
    for folder, color in zip(folders, COLORS, strict=False):
        seed = folder.config().seed
        metrics, result = folder.metrics(), folder.result()
        axes.plot(
            [row["step"] for row in metrics],
            [row["train/loss"] for row in metrics],
            color=color,
            alpha=0.35,
            linewidth=1,
        )
        validated = [row for row in metrics if "val/loss" in row]
        score = result["metrics"][result["primary_metric"]]
        axes.plot(
            [row["step"] for row in validated],
            [row["val/loss"] for row in validated],
            color=color,
            marker="o",
            markersize=3,
            label=f"seed {seed}: exact match {score:.3f}",
        )
    axes.set(xlabel="step", ylabel="nats a character", yscale="log")
    axes.set_title("Thin: training loss. Dots: validation loss.", fontsize=9, loc="left")
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()
