"""Show what became of the data, and examples of each split as the model gets them, without training.

python -m gptexp.inspect task=summarize data=files data.path=pairs.jsonl
python -m gptexp.inspect task=pretrain data=files data.path=corpus.txt --examples 5 --split train

KEY=VALUE words choose the data, task and tokenizer, as for gptexp run. The account counts examples that are left out or
cut, and text that the tokenizer does not know. In an example, tokens that carry a loss are green, or in [[brackets]].
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.checkpoints.find_weights import with_initial_tokenizer
from gptexp.cli import print_json
from gptexp.command_line import CommandParser
from gptexp.config.compose import compose_config
from gptexp.config.overrides import explain_option
from gptexp.data.corpora.corpus import SPLITS
from gptexp.errors import UserError, exits_cleanly

if TYPE_CHECKING:
    from gptexp.config.schema import Config
    from gptexp.tasks.prepare import TaskData


@exits_cleanly
def main() -> None:
    parser = CommandParser("inspect", __doc__, explain_option)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings, as for gptexp run"
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=2,
        metavar="N",
        help="number of examples of each split (default: 2)",
    )
    parser.add_argument("--split", choices=SPLITS, help="split to show examples of (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    args = parser.parse_args()
    if args.examples < 0:
        raise UserError(f"--examples {args.examples}: must be at least 0")
    for word in args.overrides:
        if word == "latest" or (Path(word) / "config.yaml").is_file():
            raise UserError(
                f"{word}: is a run. inspect shows data, and takes the settings that choose them: "
                f"task=summarize data=files data.path=FILE"
            )
    config = compose_config(args.overrides)
    if not any(word.startswith(("data", "experiment=")) for word in args.overrides):
        print(
            f"data={config.data.kind} is the default; your own: data=files data.path=FILE",
            file=sys.stderr,
        )
    data = _prepare(config)

    from gptexp.tasks.token_view import view_sequences

    store = data.store
    splits = [split for split in SPLITS if store.has(split)]
    if args.split and args.split not in splits:
        raise UserError(f"the data has no {args.split} split; it has {', '.join(splits)}")
    views = [
        view
        for split in ([args.split] if args.split else splits)
        for view in view_sequences(data, split, args.examples, config.seed)
    ]
    if args.json:
        values = {
            "account": store.meta["account"],
            "splits": store.meta["splits"],
            "examples": [asdict(view) for view in views],
        }
        print_json(values)
        return
    print(f"data account:\n{store.account.table()}")
    in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for view in views:
        print(f"\n{view.text(in_colour)}")


def _prepare(config: "Config") -> "TaskData":
    """Prepare the data as a run does, with the tokenizer of the weights that it starts from."""
    initial = with_initial_tokenizer(config)
    from gptexp.tasks.prepare import prepare  # imports torch

    return prepare(*initial, report=False)


if __name__ == "__main__":
    main()
