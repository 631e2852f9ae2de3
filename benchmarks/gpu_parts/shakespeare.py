"""The characters of Shakespeare at the size of nanoGPT's GPU recipe: loss over the whole validation split, and time.

    python benchmarks/gpu.py --only shakespeare --shakespeare FILE

nanoGPT states 1.4697 for the best of 5,000 steps, on random batches of the same split. By default, so short a run is
not compiled; "training" includes compilation where it is.
"""

import tempfile
from pathlib import Path

from measuring import SEED, Part
from whole_run import report_run

STEPS = 793  # of 64 x 256 tokens: 12.99 million
RECIPE = [
    "model.layers=6",
    "model.d_model=384",
    "model.heads=6",
    "model.context=256",
    "model.dropout=0.2",
    "optim.lr=0.02",
    "trainer.global_batch_size=64",
    f"trainer.max_steps={STEPS}",
    "trainer.log_every=20",
]
TOY = [
    "model.layers=2",
    "model.d_model=32",
    "model.heads=2",
    "model.context=32",
    "trainer.max_steps=10",
    "trainer.val_every=5",
    "trainer.log_every=2",
]


def main() -> None:
    part = Part(__doc__, ("--shakespeare", {"type": Path, "required": True}))
    words = ["experiment=shakespeare", f"data.path={part.options.shakespeare}", f"seed={SEED}"]
    words += TOY if part.options.toy else RECIPE
    with tempfile.TemporaryDirectory(prefix="gptexp-shakespeare-") as outputs:
        report_run(part, words, Path(outputs))


if __name__ == "__main__":
    main()
