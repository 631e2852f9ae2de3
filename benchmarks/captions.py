"""Measure the accuracy of captions by kind of word: colour, shape, size, position, motion.

    python benchmarks/captions.py latest          a run of task=caption on data=scenes
    python benchmarks/captions.py latest --split unseen

experiment=video, seed 1: motion 1.0, colour 1.0, size 0.99, shape 0.88 (docs/recipes.md).
"""

import argparse

from gptexp.checkpoints.load_model import load_run
from gptexp.runs.run_folder import find_run
from gptexp.tasks.prepare import prepare
from gptexp.tasks.vision.scenes import COLOURS, MOTIONS, NUMBERS, RELATIONS, SHAPES, SIZES
from gptexp.training.evaluation import compute_outputs

THINGS = {"colour": COLOURS, "shape": [*SHAPES, *(f"{shape}s" for shape in SHAPES)], "size": SIZES}
# These words name positions, relations and directions of motion alike.
PLACES = ["left", "right", "top", "bottom", "middle"]
KINDS = {
    "one": THINGS | {"place": PLACES},
    "mixed": THINGS
    | {"place or relation": {*PLACES, *" ".join(RELATIONS).split()}, "number": NUMBERS.values()},
    "video": THINGS | {"motion": {"moves", "stays", *" ".join(MOTIONS).split()}},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--split", choices=("val", "test", "unseen"), default="test")
    args = parser.parse_args()
    folder = find_run(args.run)
    config = folder.config()
    prepared = prepare(config, folder.tokenizer)
    model, tokenizer = load_run(folder)
    examples = list(
        prepared.task.layout.eval_examples(prepared.store, args.split, config.task.test_examples)
    )
    outputs = compute_outputs(
        model, prepared.task, tokenizer, [example.input for example in examples]
    )
    print(
        f"{'words':10} accuracy (captions with such words, of {len(examples)} of the {args.split} split)"
    )
    for kind, words in KINDS[config.data.level].items():
        pairs = [
            (
                [word for word in text.split() if word in words]
                for text in (output, example.reference)
            )
            for output, example in zip(outputs, examples, strict=True)
        ]
        correct = [predicted == expected for predicted, expected in pairs if expected]
        if correct:
            print(f"{kind:10} {sum(correct) / len(correct):.3f}  ({len(correct)})")


if __name__ == "__main__":
    main()
