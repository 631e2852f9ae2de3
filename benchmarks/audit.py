"""Plant duplicates, leaks and personal data into a corpus, and count how many an audit finds.

    python benchmarks/audit.py task=summarize data=files data.path=pairs.jsonl
    python benchmarks/audit.py task=pretrain data=files data.path=corpus.txt --planted 100 --seed 1

The corpus is audited as it is, too: its own findings are listed, so that a reader can judge them. A false alarm is a
finding in the planted copy that is neither planted nor one of these.
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gptexp.auditing.audit_data import audit_data
from gptexp.auditing.examples import SplitExamples
from gptexp.auditing.findings import DataAudit
from gptexp.auditing.word_lists import load_groups
from gptexp.config import compose

MIN_WORDS = 10  # of an example that is copied with changes
FILLERS = "amber basalt cobalt drizzle ember fjord gravel heather indigo juniper".split()  # noqa: SIM905

Fields = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="the data, as for run")
    parser.add_argument("--planted", type=int, default=50, help="of each kind (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = compose.compose_config(args.overrides)
    rng = random.Random(args.seed)
    splits: dict[str, list[Fields]] = {"train": [], "val": [], "test": []}
    for example in SplitExamples.read(config, lambda _: None):
        if example.text.strip() and example.split in splits:
            splits[example.split].append(example.fields)
    task = [word for word in args.overrides if word.startswith(("task", "model"))]
    with tempfile.TemporaryDirectory() as folder:
        own = audit(splits, task, Path(folder) / "own")
        planted = plant(splits, args.planted, rng)
        planted_audit = audit(splits, task, Path(folder) / "planted")
        report(own, planted_audit, planted)


def plant(
    splits: dict[str, list[Fields]], count: int, rng: random.Random
) -> dict[str, list[set[str]]]:
    """Plant into the splits; return for each planted fault the markers of the examples that may be named for it.

    A marker is the text of an example without white space. Of an example and its copy, either may be named.
    """
    originals = {
        split: [example for example in examples if _num_words(example) >= MIN_WORDS]
        for split, examples in splits.items()
    }
    for examples in originals.values():
        rng.shuffle(examples)
    changes = list(CHANGES.values())
    planted: dict[str, list[set[str]]] = {"duplicates": [], "leaks": [], "personal": []}
    additions = []
    for number in range(count):
        source, change = originals["train"].pop(), changes[number % len(changes)]
        copy = {name: change(text, rng) for name, text in source.items()}
        planted["duplicates"].append({_marker(copy), _marker(source)})
        additions.append(copy)
    for number in range(min(count, len(originals["test"]) // 2)):
        held_out, change = originals["test"].pop(), changes[number % len(changes)]
        if number % 3 == 2:  # inside of another text
            host = originals["train"].pop()
            splits["train"] = [example for example in splits["train"] if example is not host]
            leak, name = dict(host), next(iter(host))
            leak[name] = f"{leak[name]} {held_out[name]} {leak[name][:60]}"
        else:
            leak = {name: change(text, rng) for name, text in held_out.items()}
        planted["leaks"].append({_marker(leak)})
        additions.append(leak)
    for number in range(count):
        split = max(originals, key=lambda name: len(originals[name]) * rng.random())
        example = originals[split].pop()
        name = rng.choice(list(example))
        words = example[name].split(" ")
        words.insert(rng.randrange(len(words) + 1), DATA[number % len(DATA)](rng))
        example[name] = " ".join(words)
        planted["personal"].append({_marker(example)})
    for example in additions:
        splits["train"].insert(rng.randrange(len(splits["train"])), example)
    return planted


def audit(splits: dict[str, list[Fields]], task: list[str], folder: Path) -> DataAudit:
    """Audit the examples as JSON lines with fixed splits."""
    folder.mkdir()
    for split, examples in splits.items():
        lines = (json.dumps(fields, ensure_ascii=False) for fields in examples)
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", "utf8")
    paths = zip(("path", "val_path", "test_path"), splits, strict=True)
    overrides = [f"data.{key}={folder / split}.jsonl" for key, split in paths]
    return audit_data(compose.compose_config([*task, "data=files", *overrides]), load_groups())


def report(own: DataAudit, planted_audit: DataAudit, planted: dict[str, list[set[str]]]) -> None:
    texts, own_texts = _faulty_texts(planted_audit), _faulty_texts(own)
    print(f"corpus: {own.examples.counts()}")
    print("| kind | in the corpus itself | planted | found | false alarms |")
    print("|---|---|---|---|---|")
    for kind, markers in planted.items():
        # A copy of an example that has a copy is a duplicate and a leak: any fault names it.
        anywhere = set.union(*texts.values()) if kind != "personal" else texts[kind]
        missed = [choices for choices in markers if not choices & anywhere]
        num_found = len(markers) - len(missed)
        known = set().union(
            *own_texts.values(), *(one for many in planted.values() for one in many)
        )
        others = [text for text in texts[kind] if text not in known]
        share = len(others) / max(1, len(texts[kind]))
        print(
            f"| {kind} | {len(own_texts[kind])} | {len(markers)} | {num_found} | {len(others)} ({share:.1%}) |"
        )
        for choices in missed[:5]:
            print(f"  missed: {min(choices)[:150]}")
        for text in others[:5]:
            print(f"  false alarm: {text[:150]}")
    print("found in the corpus itself:")
    for copy in own.copies[:20]:
        print(f"  {copy.similarity:.2f} {copy.example.text}\n       {copy.of.text}")
    for leak in own.leaks[:10]:
        print(f"  {leak.share:.0%} {leak.run} words {leak.example.text}\n       {leak.item.text}")
    for kind, number in Counter(finding.kind for finding in own.personal).items():
        masked = [finding.masked for finding in own.personal if finding.kind == kind]
        print(f"  {number} {kind}: {', '.join(masked[:8])}")


def _faulty_texts(audit: DataAudit) -> dict[str, set[str]]:
    """Return the markers of the examples of each fault."""
    rows = {fault: set(reasons) for fault, reasons in audit.faults.items() if fault != "terms"}
    texts: dict[str, set[str]] = {fault: set() for fault in rows}
    for example in audit.examples:
        for fault, faulty in rows.items():
            if example.row in faulty:
                texts[fault].add(_marker(example.fields))
    return texts


def _marker(fields: Fields) -> str:
    return "".join("".join(fields.values()).split())


def _num_words(fields: Fields) -> int:
    return min(len(text.split()) for text in fields.values())


def _replace_words(text: str, rng: random.Random) -> str:
    words = text.split()
    for index in range(rng.randrange(10), len(words), 10):
        words[index] = rng.choice(FILLERS)
    return " ".join(words)


def _drop_words(text: str, rng: random.Random) -> str:
    first = rng.randrange(10)
    return " ".join(word for index, word in enumerate(text.split()) if index % 10 != first)


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "equal": lambda text, _: text,
    "capitals and spaces": lambda text, _: f" {text.upper()} ".replace(" ", "  "),
    "no signs": lambda text, _: "".join(c for c in text if c.isalnum() or c.isspace()),
    "one word in ten is another": _replace_words,
    "one word in ten is missing": _drop_words,
    "a word more": lambda text, rng: f"{rng.choice(FILLERS)} {text}",
}


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _luhn(digits: str) -> str:
    total = sum(
        sum(divmod(2 * int(digit), 10)) if index % 2 == 0 else int(digit)
        for index, digit in enumerate(reversed(digits))
    )
    return digits + str(-total % 10)


def _iban(rng: random.Random) -> str:
    account = _digits(rng, 18)
    check = 98 - int(f"{account}131400") % 97
    number = f"DE{check:02}{account}"
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


DATA: list[Callable[[random.Random], str]] = [
    lambda rng: f"{rng.choice(FILLERS)}.{rng.choice(FILLERS)}@{rng.choice(FILLERS)}.org",
    lambda rng: f"<{rng.choice(FILLERS)}{_digits(rng, 2)}@mail.{rng.choice(FILLERS)}.co.uk>",
    lambda rng: f"+49 {rng.choice(('30', '89', '171'))} {_digits(rng, 7)}",
    lambda rng: f"({rng.randrange(201, 999)}) {rng.randrange(200, 999)}-{_digits(rng, 4)}",
    _iban,
    lambda rng: _luhn(f"4{_digits(rng, 14)}"),
    lambda rng: (
        f"{rng.randrange(60, 223)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}"
    ),
    lambda rng: f"{rng.randrange(100, 600)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}",
    lambda rng: f"{rng.randrange(1, 300)} {rng.choice(FILLERS).title()} Street",
]


if __name__ == "__main__":
    main()
