"""Compose every shipped config and sweep: a typing mistake in a YAML file shows here, not on a cluster.

python -m gptexp.check
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from omegaconf import OmegaConf

from gptexp.config import compose
from gptexp.config.errors import UserError, exit_on_user_error

REQUIRED = {"data=files": ["data.path=corpus.txt"], "data=hub": ["data.name=some/name"]}


def main() -> None:
    exit_on_user_error(_main)


def _main() -> None:
    argparse.ArgumentParser(
        "gptexp.check", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    conf = Path(compose.conf_folder())
    commands = [[f"{group}={path.stem}"] for group in compose.GROUPS for path in sorted((conf / group).glob("*.yaml"))]
    commands += [["task=translate", f"model={path.stem}"] for path in sorted((conf / "model").glob("*.yaml"))]
    commands += [job for sweep in sorted(compose.sweeps_folder().glob("*.yaml")) for job in sweep_jobs(sweep)]
    failures = 0
    for command in commands:
        needed = [value for name in command for value in REQUIRED.get(name, [])]
        if command[0].startswith("experiment="):
            needed = (
                ["data.path=corpus.txt"]
                if "data: files" in (conf / f"{command[0].replace('=', '/')}.yaml").read_text()
                else []
            )
        try:
            compose.composed([*command, *needed])
        except UserError as error:
            failures += 1
            print(f"gptexp.check: {' '.join(command)}: {error}", file=sys.stderr)
    print(f"{len(commands)} configs composed, {failures} failed")
    if failures:
        sys.exit(1)


def sweep_jobs(sweep: Path) -> list[list[str]]:
    """The override lists of a sweep file's jobs."""
    params = OmegaConf.to_container(OmegaConf.load(sweep)).get("hydra", {}).get("sweeper", {}).get("params", {})  # type: ignore[union-attr]
    axes = [[f"{key}={value.strip()}" for value in str(values).split(",")] for key, values in params.items()]
    return [list(job) for job in itertools.product(*axes)]


if __name__ == "__main__":
    main()
