"""Compose every shipped config and sweep, and those of plugins, and report each mistake in a YAML file.

python -m gptexp.check
python -m gptexp.check plugins=[my_package]
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from gptexp.command_line import CommandParser
from gptexp.config import compose, package_data
from gptexp.config.conf_source import register_targets
from gptexp.config.hydra_errors import refuse_unknown_keys
from gptexp.config.overrides import explain_option, read_overrides
from gptexp.errors import UserError, exits_cleanly
from gptexp.sweeping.search_space import read_space, with_seed

# What a choice cannot be composed without, and has no placeholder.
NEEDED_BESIDE = {
    "data=mixture": ["task=pretrain", "data.sources.docs.kind=pydocs", "data.weights.docs=1"]
}


@exits_cleanly
def main() -> None:
    parser = CommandParser("check", __doc__, explain_option)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="override to add to each config"
    )
    words = parser.parse_args().overrides
    compose.prepare_hydra(words)
    overrides = read_overrides(words)
    register_targets()
    refuse_unknown_keys(overrides)
    jobs = shipped_jobs()
    failures = 0
    for command, sweep in jobs:
        try:
            compose_job([*command, *overrides], sweep)
        except UserError as error:
            failures += 1
            print(f"gptexp.check: {sweep or ''} {' '.join(command)}: {error}", file=sys.stderr)
    print(f"{len(jobs)} configs composed, {failures} failed")
    if failures:
        sys.exit(1)


def shipped_jobs() -> list[tuple[list[str], Path | None]]:
    """Return the overrides, and the sweep file if any, that compose each config; those of plugins included."""
    words = [
        f"{group}={name}" for group in package_data.GROUPS for name in package_data.choices(group)
    ]
    commands = [[word, *NEEDED_BESIDE.get(word, [])] for word in words]
    commands += [["task=translate", f"model={name}"] for name in package_data.choices("model")]
    jobs: list[tuple[list[str], Path | None]] = [(command, None) for command in commands]
    return jobs + [
        (job, sweep) for sweep in package_data.sweep_files() for job in sweep_jobs(sweep)
    ]


def compose_job(command: list[str], sweep: Path | None) -> None:
    """Compose one config, with a placeholder for a value that only the user knows, such as data.path."""
    try:
        compose.compose_config(command, sweep)
    except compose.MissingValueError as missing:
        compose.compose_config([*command, f"{missing.key}=placeholder"], sweep)


def sweep_jobs(sweep: Path) -> list[list[str]]:
    """Return the overrides of the jobs of a sweep file: of a grid with one seed, at both ends of a range."""
    params = OmegaConf.select(OmegaConf.load(sweep), "hydra.sweeper.params") or {}
    space = read_space([f"{key}={values}" for key, values in params.items()])
    seed = space.seeds[0] if space.seeds else None
    return [with_seed(words, seed) for words in space.grid()]


if __name__ == "__main__":
    main()
