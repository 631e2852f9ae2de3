"""Compute again the step that a guard stopped, and show where it stopped being finite.

    python -m gptexp.replay RUN                       look: which examples, and the first module
    python -m gptexp.replay RUN --skip                go on without that step's update
    python -m gptexp.replay RUN --lr-factor 0.5       go on from there with half the learning rate

Going on makes a run of its own, with a folder of its own, since its settings differ: the same command as
`python -m gptexp.run ... resume=RUN trainer.skip_steps=[STEP]`.
"""

import math
import sys
from dataclasses import replace

from gptexp.cli import parser_of
from gptexp.config.schema import Config
from gptexp.errors import UserError, exits_cleanly
from gptexp.runs.run_folder import RunFolder, find_run


@exits_cleanly
def main() -> None:
    parser = parser_of("replay", __doc__)
    parser.add_argument("run", help="a run folder, its name, or 'latest'")
    go_on = parser.add_mutually_exclusive_group()
    go_on.add_argument("--skip", action="store_true", help="go on without the update of that step")
    go_on.add_argument(
        "--lr-factor", type=float, metavar="F", help="go on with learning rates times F"
    )
    asked = parser.parse_args()
    folder = find_run(asked.run)
    crash = folder.read_record("crash")
    if not crash:
        raise UserError(f"{folder.path}: has no crash.json, no step of it was stopped by a guard")
    if asked.skip or asked.lr_factor is not None:
        from gptexp.run import run

        run(
            changed(folder.config(), folder, crash["step"] if asked.skip else None, asked.lr_factor)
        )
        return

    from gptexp.training.replay import replay  # imports torch

    print(
        f"step {crash['step']}: loss {crash['loss']}, gradient norm {crash['gradient_norm']} when it was stopped"
    )
    again = replay(folder)
    print("\n".join(again.lines()))
    if not again.is_reproduced:
        print("the step is finite now: the code, the data or the machine differs", file=sys.stderr)
        sys.exit(1)


def changed(config: Config, folder: RunFolder, skip: int | None, lr_factor: float | None) -> Config:
    """The config that goes on from `folder` without the update of step `skip`, or with scaled learning rates."""
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
    if skip is not None:
        config.trainer.skip_steps = [*config.trainer.skip_steps, skip]
    if lr_factor is not None:
        for name in config.optim.default_rates:
            setattr(config.optim, name, getattr(config.optim, name) * lr_factor)
    return config


if __name__ == "__main__":
    main()
