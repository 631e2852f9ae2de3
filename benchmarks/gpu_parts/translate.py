"""Translation with sentences of varying lengths: 200 steps of 128 pairs, model=nano.

    python benchmarks/gpu.py --only translate --pairs train.en.gz train.de.gz
    python benchmarks/gpu.py --only translate-compiled       500 steps with torch.compile

Without --pairs, it makes pairs of 5 to 40 words of its own.
"""

import json
import random
import tempfile
from pathlib import Path

from measuring import SEED, Part
from whole_run import report_run

PAIRS = 29_000
SHORTEST, LONGEST = 5, 40  # words
RECIPE = ["trainer.max_steps=200", "trainer.global_batch_size=128"]
COMPILED = ["trainer.compile=true", "trainer.log_every=1"]
TOY = [
    "model.layers=2",
    "model.d_model=32",
    "model.heads=2",
    "tokenizer.vocab_size=300",
    "trainer.max_steps=10",
    "trainer.val_every=5",
    "trainer.log_every=2",
    "task.test_examples=4",
]


def main() -> None:
    part = Part(
        __doc__, ("--pairs", {"type": Path, "nargs": 2}), ("--compiled", {"action": "store_true"})
    )
    with tempfile.TemporaryDirectory(prefix="gptexp-translate-") as name:
        folder = Path(name)
        path = folder / "pairs.jsonl"
        if part.options.pairs:
            source = f"[{','.join(map(str, part.options.pairs))}]"
            part.report("pairs", " and ".join(file.name for file in part.options.pairs))
        else:
            source = str(path)
            part.report("pairs", "made up")
            write_pairs(path, 400 if part.options.toy else PAIRS)
        words = [
            "task=translate",
            "model=nano",
            "tokenizer=bpe",
            "data=files",
            f"data.path={source}",
        ]
        words += [f"seed={SEED}", *(TOY if part.options.toy else RECIPE)]
        if part.options.compiled:
            words += COMPILED if part.options.toy else [*COMPILED, "trainer.max_steps=500"]
        report_run(part, words, folder / "outputs")


def write_pairs(path: Path, count: int) -> None:
    """Write pairs: a sentence of random words, and the same words spelt backwards."""
    rng = random.Random(SEED)
    words = [
        "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(2000)
    ]
    with path.open("w") as out:
        for _ in range(count):
            sentence = rng.choices(words, k=rng.randint(SHORTEST, LONGEST))
            backwards = " ".join(word[::-1] for word in sentence)
            out.write(json.dumps({"source": " ".join(sentence), "target": backwards}) + "\n")


if __name__ == "__main__":
    main()
