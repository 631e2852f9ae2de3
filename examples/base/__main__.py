"""Build the corpus of base: python examples/base DATA

It fetches the packages of packages.yaml, extracts their texts, leaves out near-duplicates and all that a task is tested
on, adds the records of tasks, and writes DATA/{train-00,...,val,test,unseen}.jsonl.gz, DATA/manifest.json (packages)
and DATA/summary.json (tokens by kind). After an interruption, the same command goes on where it stopped.

It takes 5 GB of disk and about half an hour of one core, and needs pip, npm and apt-get, but no root.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from assemble import Assembler
from prepare import held_out_key, list_sources, make_documents_file, prepare, update_lists

PACKAGES = Path(__file__).with_name("packages.yaml")


def main() -> None:
    first_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser("python examples/base", description=first_line)
    parser.add_argument("data", type=Path, help="folder of the corpus; it is made if it is missing")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="list of the packages")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="packages read at the same time"
    )
    arguments = parser.parse_args()
    packages: dict[str, Any] = yaml.safe_load(arguments.packages.read_text())
    build(arguments.data.resolve(), packages, arguments.processes)


def build(data: Path, packages: dict[str, Any], processes: int | None) -> None:
    """Write the corpus of these packages into a folder."""
    sources = list_sources(packages)
    if problem := update_lists(data, sources):
        print(f"Debian's packages are left out: {problem}", flush=True)
    with ProcessPoolExecutor(processes) as pool:
        problems = []
        for source, problem in zip(sources, pool.map(partial(prepare, data), sources), strict=True):
            problems.append(problem)
            state = f"read {len(problems)} of {len(sources)} packages: {source.file}"
            print(f"{state}, MISSING: {problem}" if problem else state, flush=True)
        pairs = list(zip(sources, problems, strict=True))
        available = [source for source, problem in pairs if not problem]
        key = held_out_key(data, available)
        make = partial(make_documents_file, data, key, available)
        for number, source in enumerate(pool.map(make, available), 1):
            print(
                f"made documents of {number} of {len(available)} packages: {source.file}",
                flush=True,
            )
    missing = {source.file: problem for source, problem in pairs if problem}
    Assembler(data, key, available, packages).write(missing)


if __name__ == "__main__":
    main()
