"""Plan a run before anything is spent: parameters, FLOPs, memory, time and price.

python -m gptexp.plan model=small task=pretrain
python -m gptexp.plan model=gpt2 tokenizer=hf task=pretrain --device h100 --device a100
python -m gptexp.plan model=gpt3-175b tokenizer=hf trainer.strategy=fsdp trainer.devices=8 trainer.nodes=32 \
    trainer.global_batch_size=1536 trainer.max_steps=95000 --device h100 --mfu 0.45 --html plan.html

KEY=VALUE words are those of gptexp run; trainer.devices x trainer.nodes is the number of devices. The time on this
machine follows from a few steps that are measured in a process of their own, that on other devices from the speed of
their data sheets. docs/planning.md says how, and how far that is from measurements.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.cli import print_json
from gptexp.command_line import CommandParser, output_file
from gptexp.config.compose import compose_config
from gptexp.config.overrides import explain_option
from gptexp.errors import UserError, exits_cleanly
from gptexp.files import write_text
from gptexp.planning.device import DEFAULT_MFU, THIS_MACHINE, Device, find_device, list_devices
from gptexp.stages import stage

if TYPE_CHECKING:
    from gptexp.config.schema import Config
    from gptexp.planning.workload import DataSizes

SAMPLED_STEPS = 8  # global batches whose lengths --read-data takes


@exits_cleanly
def main() -> None:
    args = _parser().parse_args()
    here, devices = _choose_devices(args.device)
    _check(args)
    page = output_file("html", args.html)
    config = compose_config(args.overrides)

    with stage("loading PyTorch"):
        from gptexp.planning.describe import describe_plan
        from gptexp.planning.page import format_plan
        from gptexp.planning.run_plan import plan_run
        from gptexp.planning.terminal import plan_text
        from gptexp.planning.workload import describe_workload

    sizes = _read_sizes(config) if args.read_data else None
    workload = describe_workload(config, sizes)
    with stage("measuring steps on this machine", is_quiet=not here or args.no_measure):
        plan = plan_run(
            config,
            workload,
            devices,
            here=here,
            measures=not args.no_measure,
            utilisation=args.mfu,
            dollars_per_hour=args.price,
        )
    sections = describe_plan(plan)
    if page:
        command = f"gptexp plan {shlex.join(sys.argv[1:])}"
        write_text(page, format_plan(command, sections))
    if args.json:
        print_json(plan.as_json())
    else:
        print(plan_text(sections))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("plan", __doc__, explain_option)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings, as for gptexp run"
    )
    parser.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help=f"device to plan for; may be repeated: {THIS_MACHINE}, {', '.join(list_devices())} (default: all)",
    )
    parser.add_argument(
        "--mfu",
        type=float,
        default=DEFAULT_MFU,
        metavar="X",
        help=f"share of the dense bf16 peak that training reaches on named devices (default: {DEFAULT_MFU})",
    )
    parser.add_argument(
        "--price",
        type=float,
        metavar="DOLLARS",
        help="price of one device for one hour (default: list prices of November 2026)",
    )
    parser.add_argument(
        "--read-data",
        action="store_true",
        help="prepare the data as a run does, and take vocabulary and lengths from them",
    )
    parser.add_argument(
        "--no-measure", action="store_true", help="do not measure steps on this machine"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--html", metavar="FILE", help="write a page")
    return parser


def _choose_devices(names: list[str] | None) -> tuple[bool, list[Device]]:
    """Return whether this machine is among the devices, and the others.

    Raises:
        UserError: a device is not known.
    """
    if not names:
        return True, list(list_devices().values())
    return THIS_MACHINE in names, [find_device(name) for name in names if name != THIS_MACHINE]


def _check(args: argparse.Namespace) -> None:
    """Check the values of the options.

    Raises:
        UserError: one is out of its range.
    """
    if not 0 < args.mfu <= 1:
        raise UserError(f"--mfu {args.mfu:g}: must be more than 0 and at most 1, such as 0.4")
    if args.price is not None and not 0 <= args.price < float("inf"):
        raise UserError(f"--price {args.price:g}: must be at least 0")
    for word in args.overrides:
        if (Path(word) / "config.yaml").is_file():
            raise UserError(
                f"{word}: is a run. plan takes settings, as gptexp run does: model=small task=pretrain"
            )


def _read_sizes(config: "Config") -> "DataSizes":
    """Prepare the data, and return the vocabulary and the mean and longest lengths of the first global batches."""
    from gptexp.checkpoints.find_weights import with_initial_tokenizer
    from gptexp.data.loader import DataModule
    from gptexp.planning.workload import DataSizes
    from gptexp.tasks.prepare import prepare

    config, tokenizer = with_initial_tokenizer(config)
    data = prepare(config, tokenizer, report=False)
    batches = DataModule(
        data.task.layout, data.store, config.trainer, config.seed, config.data.order_block
    ).batches()
    sampled = [batches[step] for step in range(min(SAMPLED_STEPS, config.trainer.max_steps))]
    sequences = sum(map(len, sampled))
    return DataSizes(
        data.store.tokenizer.vocab_size,
        sum(batch.counts.tokens for batch in sampled) / sequences,
        max(batch.tokens.shape[1] for batch in sampled),
        sum(batch.counts.targets for batch in sampled) / sequences,
    )


if __name__ == "__main__":
    main()
