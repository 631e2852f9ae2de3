"""Write the questions of first_line.yaml: which of four first lines belongs to the rest of this docstring?

python examples/harness/first_lines.py
gptexp evaluate base --harness first_line --harness-path examples/harness

The docstrings are those of packages that base was never trained on. The wrong lines are those of the same package that
share most words with the right one. The script prints the accuracy of the line with most words of the rest, a baseline
beside the 0.25 of chance.
"""

import json
import random
from importlib.util import find_spec
from pathlib import Path

from gptexp.data.corpora.docstrings import Docstring, read_docstrings
from gptexp.data.corpora.summaries import content_words, support
from gptexp.data.duplicates import first_near_duplicates

PACKAGES = ("fsspec", "networkx", "wandb")
LINES, QUESTIONS_PER_PACKAGE = 4, 200
MIN_CHARACTERS, MAX_CHARACTERS = 100, 400  # of the rest
FILE = Path(__file__).with_name("first_lines.jsonl")


def main() -> None:
    rng = random.Random(0)
    rows = [row for package in PACKAGES for row in make_questions(package, rng)]
    FILE.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf8")
    hits = [guess_by_words(row) == row["label"] for row in rows]
    print(f"{len(rows)} questions in {FILE}; most words in common: {sum(hits) / len(hits):.3f}")


def make_questions(package: str, rng: random.Random) -> list[dict]:
    """Return questions about the docstrings of a package."""
    folder = find_spec(package).submodule_search_locations[0]
    found = [one for file in read_docstrings(sorted(Path(folder).rglob("*.py"))) for one in file]
    number_of_first = first_near_duplicates(docstring.text for docstring in found)
    distinct = [found[number] for number in sorted(set(number_of_first.tolist()))]
    pairs = dict(filter(None, map(divide, distinct)))  # first lines are distinct, too
    questions = []
    for first, rest in rng.sample(sorted(pairs.items()), min(QUESTIONS_PER_PACKAGE, len(pairs))):
        others = find_similar(first, sorted(pairs))
        lines = rng.sample([first, *others], LINES)
        questions.append({"lines": lines, "rest": rest, "label": lines.index(first)})
    return questions


def divide(docstring: Docstring) -> tuple[str, str] | None:
    """Return the first line of a docstring and the rest, cut at a word; None: it is too short."""
    first, _, rest = docstring.text.partition("\n\n")
    if "\n" in first or len(rest) < MIN_CHARACTERS:
        return None
    return first, rest if len(rest) <= MAX_CHARACTERS else rest[:MAX_CHARACTERS].rsplit(None, 1)[0]


def find_similar(first: str, lines: list[str]) -> list[str]:
    """Return the other lines that share most words with the first one."""
    words = content_words(first)

    def similarity(line: str) -> float:
        others = content_words(line)
        return len(words & others) / max(1, len(words | others))

    return sorted((line for line in lines if line != first), key=similarity)[1 - LINES :]


def guess_by_words(row: dict) -> int:
    """Return the line whose words stand in the rest most often."""
    shares = [support(line, row["rest"]) for line in row["lines"]]
    return shares.index(max(shares))


if __name__ == "__main__":
    main()
