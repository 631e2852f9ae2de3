"""Score a trained model on a whole held-out split, next to a naive baseline.

python -m gptexp.evaluate latest
python -m gptexp.evaluate outputs/summarize-small-1a2b3c4d --split val --json
"""

import re
from pathlib import Path

from gptexp.checkpoints.find_weights import SUGGESTED_MODELS
from gptexp.cli import print_json
from gptexp.command_line import CommandParser
from gptexp.errors import UserError, exits_cleanly
from gptexp.runs import tables
from gptexp.runs.run_folder import find_run
from gptexp.stages import stage


@exits_cleanly
def main() -> None:
    parser = CommandParser("evaluate", __doc__)
    parser.add_argument("run", help="a run folder, its name, or 'latest'")
    parser.add_argument(
        "--split",
        choices=("val", "test", "unseen", "unsupported"),
        default="test",
        help="held-out split (default: test)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="log metrics and samples to W&B, as a run of job type evaluate",
    )
    args = parser.parse_args()
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
    with stage("loading PyTorch"):
        from gptexp.checkpoints.load_model import load_run
        from gptexp.distributed.devices import pick_device
        from gptexp.tasks.prepare import prepare
        from gptexp.training.evaluation import evaluate
        from gptexp.training.example_scores import score_rows

    prepared = prepare(config, folder.tokenizer)
    if prepared.store.fingerprint != folder.read_record("data").get("fingerprint"):
        raise UserError(
            f"{folder.path}: its data has changed since it was trained; its metrics would not be comparable"
        )
    if not prepared.store.has(args.split):
        raise UserError(f"{folder.path}: its data has no {args.split} split; try another --split")
    model, _ = load_run(folder)
    model.to(pick_device(config.trainer.accelerator))
    evaluation = evaluate(
        model, prepared.task, prepared.store, args.split, config.trainer.precision
    )
    if args.wandb:
        samples = evaluation.samples(prepared.task)
        scores = list(score_rows({args.split: evaluation}, prepared.task))
        log_evaluation(config, folder, args.split, evaluation.metrics, samples, scores)
    if args.json:
        print_json(
            {
                "run": str(folder.path),
                "split": args.split,
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
