"""Which words of a caption are right: the share of drawings whose colour, shape, size, motion ... is right.

python benchmarks/captions.py latest          a run of task=caption on data=scenes
python benchmarks/captions.py latest --split unseen
"""

import argparse

from gptexp.checkpoints.load_model import load_run
from gptexp.runs.run_folder import find_run
from gptexp.tasks.prepare import prepare
from gptexp.tasks.vision.scenes import COLOURS, MOTIONS, NUMBERS, RELATIONS, SHAPES, SIZES
from gptexp.training.evaluation import compute_outputs

THINGS = {"colour": COLOURS, "shape": [*SHAPES, *(f"{shape}s" for shape in SHAPES)], "size": SIZES}
# The same words say where something is, where it stands beside another, and where it moves.
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
        f"{'words':10} right, of {len(examples)} captions of the {args.split} split that have such words"
    )
    for kind, words in KINDS[config.data.level].items():
        pairs = [
            (
                [word for word in text.split() if word in words]
                for text in (output, example.reference)
            )
            for output, example in zip(outputs, examples, strict=True)
        ]
        scored = [ours == theirs for ours, theirs in pairs if theirs]
        if scored:
            print(f"{kind:10} {sum(scored) / len(scored):.3f}  ({len(scored)})")


if __name__ == "__main__":
    main()
