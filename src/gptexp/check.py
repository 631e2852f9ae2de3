"""Compose every shipped config and sweep: a typing mistake in a YAML file shows here, not on a cluster.

python -m gptexp.check
"""

import itertools
import sys
from pathlib import Path

from omegaconf import OmegaConf

from gptexp.cli import parser_of
from gptexp.config import compose, package_data
from gptexp.errors import UserError, exits_cleanly


@exits_cleanly
def main() -> None:
    parser_of("check", __doc__).parse_args()
    conf = Path(package_data.conf_folder())
    commands = [
        [f"{group}={path.stem}"]
        for group in package_data.GROUPS
        for path in sorted((conf / group).glob("*.yaml"))
    ]
    commands += [
        ["task=translate", f"model={path.stem}"] for path in sorted((conf / "model").glob("*.yaml"))
    ]
    jobs: list[tuple[list[str], Path | None]] = [(command, None) for command in commands]
    jobs += [(job, sweep) for sweep in package_data.sweep_files() for job in sweep_jobs(sweep)]
    failures = 0
    for command, sweep in jobs:
        try:
            _compose(command, sweep)
        except UserError as error:
            failures += 1
            print(f"gptexp.check: {sweep or ''} {' '.join(command)}: {error}", file=sys.stderr)
    print(f"{len(jobs)} configs composed, {failures} failed")
    if failures:
        sys.exit(1)


def _compose(command: list[str], sweep: Path | None) -> None:
    try:
        compose.compose_config(command, sweep)
    except compose.MissingValueError as missing:  # what only the user can know, such as data.path
        compose.compose_config([*command, f"{missing.key}=something"], sweep)


def sweep_jobs(sweep: Path) -> list[list[str]]:
    """The override lists of a sweep file's jobs."""
    params = OmegaConf.select(OmegaConf.load(sweep), "hydra.sweeper.params") or {}
    axes = [
        [f"{key}={value.strip()}" for value in str(values).split(",")]
        for key, values in params.items()
    ]
    return [list(job) for job in itertools.product(*axes)]


if __name__ == "__main__":
    main()
