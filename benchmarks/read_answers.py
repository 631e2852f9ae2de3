"""Draw answers at random, to be read one by one against input and reference, and count the verdicts.

    python benchmarks/read_answers.py latest --count 50 --seed 0 > answers.md
    python benchmarks/read_answers.py --counts answers.md

The first command writes a Markdown table. A reader fills in its last column by this rubric:

    right   says what the input is for, as the reference does or as well; nothing in it is false
    partly  says a part of it, or all of it and something that the input does not say
    wrong   says something else, or something false
    empty   says nothing: no words, or words that would suit any input
"""

import argparse
import random
from collections import Counter
from pathlib import Path

from gptexp.checkpoints.load_model import load_run
from gptexp.errors import UserError, exits_cleanly
from gptexp.runs.run_folder import find_run
from gptexp.tasks.prepare import prepare
from gptexp.training.evaluation import compute_outputs

RUBRIC = ("right", "partly", "wrong", "empty")
COLUMNS = ("", "input", "reference", "answer", "verdict")


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="a run of task=summarize, or 'latest'")
    parser.add_argument("--split", choices=("val", "test", "unseen"), default="test")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--counts", type=Path, metavar="FILE", help="count the verdicts of a table")
    args = parser.parse_args()
    if args.counts:
        print(describe_counts(args.counts.read_text("utf8"), str(args.counts)))
    elif args.run:
        print(answer_table(args.run, args.split, args.count, args.seed))
    else:
        parser.error("name a run whose answers are drawn, or a table with --counts FILE")


def answer_table(run: str, split: str, count: int, seed: int) -> str:
    """Return a table of answers to `count` inputs of a split, drawn at random, without verdicts."""
    folder = find_run(run)
    prepared = prepare(folder.config(), folder.tokenizer)
    model, tokenizer = load_run(folder)
    examples = list(prepared.task.layout.eval_examples(prepared.store, split, 0))
    drawn = random.Random(seed).sample(examples, min(count, len(examples)))
    inputs = [example.input for example in drawn]
    outputs = compute_outputs(model.eval(), prepared.task, tokenizer, inputs)
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for number, (example, output) in enumerate(zip(drawn, outputs, strict=True), 1):
        rows.append((str(number), example.input, example.reference, output, ""))
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def describe_counts(table: str, name: str) -> str:
    """Return the number of each verdict in a filled table.

    Raises:
        UserError: a row has no verdict of the rubric.
    """
    counts: Counter[str] = Counter()
    for number, line in enumerate(table.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").replace(r"\|", "").split("|")]
        if not cells[0].isdigit():
            continue
        verdict = cells[-1].lower() if len(cells) == len(COLUMNS) else ""
        if verdict not in RUBRIC:
            raise UserError(
                f"{name}, line {number}: the verdict is {verdict!r}; it must be one of {', '.join(RUBRIC)}"
            )
        counts[verdict] += 1
    total = counts.total()
    return ", ".join(f"{verdict} {counts[verdict]}" for verdict in RUBRIC) + f" of {total}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", "<br>").strip()


if __name__ == "__main__":
    main()
