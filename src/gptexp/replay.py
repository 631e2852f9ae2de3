"""Compute again a step whose loss or gradient was not finite, and show where it stops being finite.

    python -m gptexp.replay RUN                       show the examples and the first module
    python -m gptexp.replay RUN --skip                continue without the update of that step
    python -m gptexp.replay RUN --lr-factor 0.5       continue from there with half the learning rate

--skip and --lr-factor start a new run with its own folder, since its settings differ: --skip is the same as
`python -m gptexp.run ... resume=RUN trainer.skip_steps=[STEP]`.
"""

import math
import sys
from dataclasses import replace

from gptexp.command_line import CommandParser
from gptexp.config.schema import Config
from gptexp.errors import UserError, exits_cleanly
from gptexp.runs.run_folder import RunFolder, find_run


@exits_cleanly
def main() -> None:
    parser = CommandParser("replay", __doc__)
    parser.add_argument("run", help="a run folder, its name, or 'latest'")
    remedies = parser.add_mutually_exclusive_group()
    remedies.add_argument("--skip", action="store_true", help="continue without that step's update")
    remedies.add_argument(
        "--lr-factor", type=float, metavar="F", help="continue with all learning rates times F"
    )
    args = parser.parse_args()
    folder = find_run(args.run)
    crash = folder.read_record("crash")
    if not crash:
        raise UserError(
            f"{folder.path}: has no crash.json, the record of a step that was not finite"
        )
    if args.skip or args.lr_factor is not None:
        from gptexp.run import run

        skip_step = crash["step"] if args.skip else None
        run(config_to_continue(folder.config(), folder, skip_step, args.lr_factor))
        return

    from gptexp.training.replay import replay  # imports torch

    print(
        f"step {crash['step']}: the run stopped at loss {crash['loss']}, gradient norm {crash['gradient_norm']}"
    )
    result = replay(folder)
    print("\n".join(result.lines()))
    if not result.is_reproduced:
        print("the step is finite now", file=sys.stderr)
        sys.exit(1)


def config_to_continue(
    config: Config, folder: RunFolder, skip_step: int | None, lr_factor: float | None
) -> Config:
    """Return the config of a run that continues `folder`, without a step's update or with scaled learning rates."""
    if lr_factor is not None and not 0 < lr_factor < math.inf:
        raise UserError(f"--lr-factor {lr_factor}: must be a number above 0")
    config = replace(
        config,
        init=None,
        resume=str(folder.path),
        fresh=False,
        outputs=str(folder.path.resolve().parent),
        trainer=replace(config.trainer),
        optim=replace(config.optim),
    )
    if skip_step is not None:
        config.trainer.skip_steps = [*config.trainer.skip_steps, skip_step]
    if lr_factor is not None:
        for name in config.optim.learning_rates():
            setattr(config.optim, name, getattr(config.optim, name) * lr_factor)
    return config


if __name__ == "__main__":
    main()
