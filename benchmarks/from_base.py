"""Compare runs from base with runs from random weights, task by task: does a task learn more from base?

    python benchmarks/from_base.py                                  all tasks, seeds 1 and 2: hours on two cores
    python benchmarks/from_base.py extract mlm --seeds 1 --add trainer.max_steps=100 --cache cache

Three runs a task and seed, with as many steps: the task's defaults from random weights, and the shape and tokenizer of
base from random weights and from base. A task should start from base (`starts_from_base` in its settings) where the
last is better than both others in the time that the task has.
"""

import argparse
import math
import subprocess
import tempfile
from itertools import product
from pathlib import Path

from every_task import measure

from gptexp.config.base_weights import FOLDER
from gptexp.runs.run_folder import RunFolder

TASKS = ("summarize", "extract", "translate", "mlm", "pretrain", "caption")
ARMS = {
    "defaults, from scratch": "init=scratch",
    "shape of base, from scratch": f"model=small tokenizer=hf tokenizer.name={FOLDER} init=scratch",
    "from base": "model=small tokenizer=bpe init=base",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=TASKS, metavar="TASK", help="default: all")
    parser.add_argument("--seeds", default="1,2", help="default: 1,2")
    parser.add_argument("--add", nargs="+", default=[], metavar="KEY=VALUE", help="for all of them")
    parser.add_argument("--cache", type=Path, help="folder of prepared data, kept")
    parser.add_argument("--outputs", type=Path, help="default: a folder that is removed")
    args = parser.parse_args()
    seeds = args.seeds.split(",")
    print(f"| task | weights | {' | '.join(f'seed {seed}' for seed in seeds)} | CPU, s |")
    print("|---" * (len(seeds) + 3) + "|")
    with tempfile.TemporaryDirectory() as scratch:
        outputs, cache = args.outputs or Path(scratch) / "outputs", args.cache or Path(scratch)

        def measure_seed(task: str, arm: str, seed: str) -> tuple[str, float]:
            try:
                done = measure(f"task={task} {ARMS[arm]} seed={seed}", args.add, outputs, cache)
            except subprocess.CalledProcessError as error:
                return f"exit code {error.returncode}", math.nan
            return format_metric(done.folder), done.cpu_seconds

        for task, arm in product(args.tasks, ARMS):
            metrics, seconds = zip(*(measure_seed(task, arm, seed) for seed in seeds), strict=True)
            mean = sum(seconds) / len(seconds)
            print(f"| {task} | {arm} | {' | '.join(metrics)} | {mean:.0f} |", flush=True)


def format_metric(folder: RunFolder) -> str:
    """Return the primary metric, and its value on sources never seen where they are scored."""
    result = folder.result()
    name = result["primary_metric"]
    unseen = result["metrics"].get(name.replace("test/", "test/unseen/"))
    more = "" if unseen is None else f", unseen {unseen:.4g}"
    return f"{name} {result['metrics'][name]:.4g}{more}"


if __name__ == "__main__":
    main()
