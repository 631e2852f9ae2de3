"""Score a trained model on a whole held-out split, next to a naive baseline, or on tasks of lm-evaluation-harness.

python -m gptexp.evaluate latest
python -m gptexp.evaluate outputs/summarize-small-1a2b3c4d --split val --json
python -m gptexp.evaluate latest --harness hellaswag,arc_easy --limit 200
python -m gptexp.evaluate gpt2 --harness first_line --harness-path examples/harness
"""

import argparse
import os
import re
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from gptexp.checkpoints.find_weights import SUGGESTED_MODELS, find_weights
from gptexp.cli import print_json
from gptexp.command_line import CommandParser
from gptexp.config.plugins import has_outside_code
from gptexp.errors import UserError, exits_cleanly
from gptexp.extras import require_extra
from gptexp.network import hub_is_reachable
from gptexp.optional_imports import hide_optional_packages
from gptexp.runs import tables
from gptexp.runs.run_folder import RunFolder, find_run
from gptexp.stages import stage

HARNESS_OPTIONS = ("harness_path", "harness_chat", "limit", "num_fewshot")


def _parse_arguments() -> argparse.Namespace:
    parser = CommandParser("evaluate", __doc__)
    parser.add_argument(
        "run",
        help="a run folder, its name, or 'latest'; with --harness also an exported folder or a Hugging Face name",
    )
    parser.add_argument(
        "--split",
        choices=("val", "test", "unseen", "unsupported"),
        help="held-out split (default: test)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="log metrics and samples to W&B, as a run of job type evaluate",
    )
    harness = parser.add_argument_group("lm-evaluation-harness", "needs gptexp[harness]")
    harness.add_argument(
        "--harness",
        metavar="TASKS",
        help="names of tasks or YAML files of tasks, with commas between them",
    )
    harness.add_argument(
        "--harness-path",
        type=Path,
        metavar="FOLDER",
        help="folder with YAML files of further tasks",
    )
    harness.add_argument(
        "--harness-chat",
        action="store_true",
        help="ask in the chat format of the model; answered examples are earlier turns",
    )
    harness.add_argument(
        "--limit", type=int, metavar="N", help="number of examples of each task (default: all)"
    )
    harness.add_argument(
        "--num-fewshot",
        type=int,
        metavar="N",
        help="number of answered examples in the prompt (default: that of the task)",
    )
    args = parser.parse_args()
    _check_options(args)
    return args


def _check_options(args: argparse.Namespace) -> None:
    if args.harness is None:
        for name in HARNESS_OPTIONS:
            if getattr(args, name) not in (None, False):
                raise UserError(f"--{name.replace('_', '-')}: needs --harness TASKS")
        return
    require_extra("harness", ["lm_eval"])
    if args.split:
        raise UserError(
            f"--split {args.split}: the tasks of --harness have data of their own; leave it out"
        )
    if not all(name.strip() for name in args.harness.split(",")):
        raise UserError(
            f"--harness {args.harness!r}: give names of tasks, such as hellaswag,arc_easy"
        )
    if args.harness_path and not args.harness_path.is_dir():
        raise UserError(
            f"--harness-path {args.harness_path}: is no folder; give one with YAML files of tasks"
        )
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: must be at least 1")
    if args.num_fewshot is not None and args.num_fewshot < 0:
        raise UserError(f"--num-fewshot {args.num_fewshot}: must be at least 0")


@exits_cleanly
def main() -> None:
    args = _parse_arguments()
    if args.harness:
        _evaluate_harness(args)
    else:
        _evaluate_split(args)


def _evaluate_harness(args: argparse.Namespace) -> None:
    """Score a model on tasks of lm-evaluation-harness; a run keeps the scores in its folder."""
    source = find_weights(args.run)
    run = source if isinstance(source, RunFolder) else None
    if args.wandb and run is None:
        raise UserError(
            f"--wandb: {args.run} is no run, beside which W&B could show the scores; leave it out"
        )
    # Then `datasets` takes from its cache what it has, and does not retry for minutes.
    if not hub_is_reachable():
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    with stage("loading lm-evaluation-harness"):
        from gptexp.harness.harness_model import HarnessModel
        from gptexp.harness.run_tasks import evaluate_tasks, find_tasks

    folder = run.path / "harness" if run else None
    if folder is not None and not _can_write(folder):
        raise UserError(f"{folder}: the scores cannot be written there; it must be a folder")
    if args.harness_chat and source.tokenizer.is_file():
        _check_chat_format(args.run, source.tokenizer)
    with redirect_stdout(sys.stderr):  # the harness prints as it goes; stdout is for the scores
        names = [name.strip() for name in args.harness.split(",")]
        tasks = find_tasks(names, args.harness_path)
    with stage("loading the model"):
        from gptexp.checkpoints.load_model import load
        from gptexp.data.chat_format import find_chat_format
        from gptexp.distributed.devices import pick_device

        model, tokenizer = load(source)
    if model.config.arch != "decoder":
        raise UserError(
            f"{args.run}: has model.arch={model.config.arch}; --harness scores how a text continues, which takes a "
            f"model with model.arch=decoder"
        )
    chat_format = find_chat_format(tokenizer) if args.harness_chat else None
    harness_model = HarnessModel(model.to(pick_device()), tokenizer, chat_format)
    with redirect_stdout(sys.stderr):
        report = evaluate_tasks(harness_model, tasks, args.limit, args.num_fewshot)
    if run is not None:
        report.settings["weights"] = run.weights_digest()
    if args.json:
        print_json({"model": str(source.path), **report.as_json()})
    else:
        print(report.table())
        for remark in report.remarks:
            print(f"  {remark}")
    if folder is not None:
        try:
            report.write(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
        if not args.json:
            print(f"  the scores of each example: {folder}")
    if args.wandb and run is not None:
        from gptexp.runs.wandb_uploads import log_evaluation, with_wandb

        log_evaluation(
            with_wandb(run.config()), run, "harness", report.metrics(), report.texts(), []
        )


def _can_write(folder: Path) -> bool:
    """Return whether a folder can be written, or made."""
    place = folder if folder.exists() else folder.parent
    return place.is_dir() and os.access(place, os.W_OK)


def _check_chat_format(name: str, tokenizer: Path) -> None:
    """Refuse --harness-chat for a model without a chat format, before the data of tasks is loaded.

    Raises:
        UserError: it has none.
    """
    from gptexp.data.chat_format import find_chat_format
    from gptexp.data.tokenizers import Tokenizer

    try:
        find_chat_format(Tokenizer.load(tokenizer))
    except UserError as error:
        raise UserError(
            f"--harness-chat: {name} has no chat format ({error}). Leave the option out, or train the model on "
            f"conversations: gptexp run task=chat init={name}"
        ) from None


def _evaluate_split(args: argparse.Namespace) -> None:
    """Score a run on a held-out split of its own data."""
    split = args.split or "test"
    try:
        folder = find_run(args.run)
    except UserError as error:
        if not _may_be_model(args.run):
            raise
        raise UserError(
            f"{error}. A model that is no run has no data to score it on. To score it without training, type: "
            f"python -m gptexp.run init={args.run} task=... data=... optim=adamw optim.lr=0 trainer.max_steps=1"
        ) from None

    config = folder.config()
    if args.wandb:
        from gptexp.runs.wandb_uploads import log_evaluation, with_wandb

        config = with_wandb(config)
    imports = nullcontext() if has_outside_code(config) else hide_optional_packages()
    with stage("loading PyTorch"), imports:
        from gptexp.checkpoints.load_model import load_run
        from gptexp.distributed.devices import pick_device
        from gptexp.tasks.prepare import prepare
        from gptexp.training.evaluation import evaluate
        from gptexp.training.example_scores import score_rows
        from gptexp.training.reference import prepare_reference

    prepared = prepare(config, folder.tokenizer)
    if prepared.store.fingerprint != folder.read_record("data").get("fingerprint"):
        raise UserError(
            f"{folder.path}: its data has changed since it was trained; its metrics would not be comparable"
        )
    if not prepared.store.has(split):
        raise UserError(f"{folder.path}: its data has no {split} split; try another --split")
    device = pick_device(config.trainer.accelerator)
    prepare_reference(config, prepared.task, prepared.store, device, splits=[split])
    model, _ = load_run(folder)
    model.to(device)
    evaluation = evaluate(model, prepared.task, prepared.store, split, config.trainer.precision)
    if args.wandb:
        samples = evaluation.samples(prepared.task)
        scores = list(score_rows({split: evaluation}, prepared.task))
        log_evaluation(config, folder, split, evaluation.metrics, samples, scores)
    if args.json:
        print_json(
            {
                "run": str(folder.path),
                "split": split,
                "metrics": evaluation.metrics,
                "remarks": evaluation.remarks,
            }
        )
    else:
        print(tables.samples_text(evaluation.samples(prepared.task)))
        print(tables.metrics_table(evaluation.metrics))
        for remark in evaluation.remarks:
            print(f"  {remark}")


def _may_be_model(name: str) -> bool:
    """Return whether a name is a folder with a model, or has the form of a name on the hub."""
    path = Path(name).expanduser()
    is_hub_name = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not path.parent.exists()
    return bool(is_hub_name) or name in SUGGESTED_MODELS or (path / "config.json").is_file()


if __name__ == "__main__":
    main()
