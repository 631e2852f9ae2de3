"""Train on a machine that has no network and little time: carry a run's tokens there, and its results back.

    here     python examples/base/carry.py pack JOB experiment=base data.path='corpus/train-*.jsonl.gz'
    there    python examples/base/carry.py train JOB --minutes 9
    here     python examples/base/carry.py join JOB/back/RUN outputs/RUN

`pack` encodes the data and writes JOB/words.json and JOB/parts: the tokens, compressed, in files of at most 40 MiB.
Copy JOB and this checkout to the other machine, in as many steps as it takes. `train` puts the parts together, trains,
and stops in time with a checkpoint; the same command goes on from there. Each time it leaves the run in JOB/back/RUN,
in files of at most 15 MiB: config, metrics, result, the newest and the best checkpoint with the state of the optimizer.
`join` puts them together. On another machine, `train` goes on from the JOB/back that is carried with the job.

A folder comes out complete or not at all: parts.json has the sha256 of every part.
"""

import argparse
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from gptexp.config.compose import compose_config
from gptexp.errors import Preempted, RunError, UserError, exits_cleanly
from gptexp.files import atomic_folder, sha256, write_text
from gptexp.tasks.prepare import prepare
from gptexp.wording import format_count

MIB = 1 << 20
PART_BYTES, BACK_BYTES = 40 * MIB, 15 * MIB
LIST = "parts.json"
SECONDS_TO_END = 25.0  # that `train` keeps to save a checkpoint and to pack the run
OWN_GROUPS = ("data", "outputs", "logger")  # settings that `train` gives itself


class PartWriter:
    """A file to write that is cut into parts."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.file: BinaryIO | None = None
        self.count = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self.file is None:
                self.file = (self.folder / f"part-{self.count:03}").open("wb")
                self.count += 1
            room = self.size - self.file.tell()
            self.file.write(view[:room])
            view = view[room:]
            if self.file.tell() == self.size:
                self.close()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class PartReader:
    """A file to read that consists of parts."""

    def __init__(self, parts: Iterable[Path]) -> None:
        self.parts = iter(parts)
        self.file: BinaryIO | None = None

    def read(self, size: int) -> bytes:
        while True:
            if self.file is not None and (data := self.file.read(size)):
                return data
            self.close()
            part = next(self.parts, None)
            if part is None:
                return b""
            self.file = part.open("rb")

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


def pack(files: dict[str, Path], target: Path, part_bytes: int, compress: bool) -> int:
    """Write files into an archive under these names, in parts of `part_bytes`; return the number of parts."""
    with atomic_folder(target) as folder:
        parts = PartWriter(folder, part_bytes)
        with tarfile.open(fileobj=parts, mode="w|xz" if compress else "w|") as archive:
            for name, path in files.items():
                archive.add(path, name)
        parts.close()
        digests = {path.name: sha256(path) for path in sorted(folder.iterdir())}
        write_text(folder / LIST, json.dumps(digests, indent=1) + "\n")
    return parts.count


def join(source: Path, target: Path) -> None:
    """Put parts together again, as a folder in the place of `target`.

    Raises:
        UserError: parts are missing or damaged.
    """
    try:
        digests: dict[str, str] = json.loads((source / LIST).read_text())
    except (OSError, ValueError):
        raise UserError(f"{source}: has no readable {LIST}. Copy it with its parts") from None
    parts = [source / name for name in digests]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise UserError(
            f"{source}: {len(missing)} of {len(parts)} parts are missing: {' '.join(missing)}"
        )
    for part in parts:
        if sha256(part) != digests[part.name]:
            raise UserError(f"{part}: is not what was packed. Copy it again")
    with (
        atomic_folder(target) as folder,
        closing(PartReader(parts)) as reader,
        tarfile.open(fileobj=reader, mode="r|*") as archive,
    ):
        archive.extractall(folder, filter="data")


def pack_job(job: Path, words: list[str]) -> None:
    """Encode the data of a run, and pack the tokens."""
    store = prepare(compose_config(words)).store
    files = {path.name: path for path in sorted(store.folder.iterdir())}
    count = pack(files, job / "parts", PART_BYTES, compress=True)
    kept = [word for word in words if word.split("=")[0].split(".")[0] not in OWN_GROUPS]
    write_text(job / "words.json", json.dumps(kept) + "\n")
    size = sum(path.stat().st_size for path in (job / "parts").glob("part-*")) / MIB
    tokens = store.meta["splits"]["train"]["tokens"]
    print(
        f"{tokens:,} training tokens in {format_count(count, 'part')}, {size:.1f} MiB: {job / 'parts'}"
    )


def train_job(job: Path, minutes: float) -> None:
    """Train until the minutes are over or the run has ended, and pack the run.

    Raises:
        UserError: parts are missing. RunError: the run has failed; what it left is packed all the same.
    """
    deadline = time.monotonic() + 60 * minutes - SECONDS_TO_END
    if not (job / "store").is_dir():
        join(job / "parts", job / "store")
    for parts in (job / "back").glob("*/"):
        if not (job / "outputs" / parts.name).exists():
            join(parts, job / "outputs" / parts.name)
    words: list[str] = json.loads((job / "words.json").read_text())
    words += ["data=tokens", f"data.path={job / 'store'}", f"outputs={job / 'outputs'}"]
    with subprocess.Popen([sys.executable, "-m", "gptexp.run", *words, "logger=none"]) as process:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # it saves a checkpoint and ends
    configs = sorted(
        (job / "outputs").glob("*/config.yaml"), key=lambda path: path.stat().st_mtime_ns
    )
    if not configs:
        raise RunError(f"{job}: the run ended with code {process.returncode}, and has no folder")
    run = configs[-1].parent
    back = job / "back" / run.name
    count = pack(files_to_bring_back(run), back, BACK_BYTES, compress=False)
    outcome = (
        f"{run}: ended with code {process.returncode}; {format_count(count, 'part')} in {back}"
    )
    if process.returncode not in (0, Preempted.code):
        raise RunError(outcome)
    print(outcome)


def files_to_bring_back(run: Path) -> dict[str, Path]:
    """Return the files of a run by their names in it, without checkpoints that are neither the last nor the best."""
    checkpoints = run / "checkpoints"
    kept = {
        checkpoints,
        *(
            checkpoints / path.read_text().strip()
            for path in checkpoints.iterdir()
            if path.is_file()
        ),
    }
    return {
        str(path.relative_to(run)): path
        for path in sorted(run.rglob("*"))
        if path.is_file() and (checkpoints not in path.parents or path.parent in kept)
    }


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("pack", help="encode the data of a run, and pack its tokens")
    verb.add_argument("job", type=Path, help="folder to write")
    verb.add_argument("words", nargs="+", metavar="KEY=VALUE", help="settings, as for gptexp run")
    verb = verbs.add_parser("train", help="train on the other machine, or go on")
    verb.add_argument("job", type=Path, help="folder that pack has written")
    verb.add_argument("--minutes", type=float, default=9.0, help="time that it takes (default: 9)")
    verb = verbs.add_parser("join", help="put parts together")
    verb.add_argument("source", type=Path, help="folder of the parts")
    verb.add_argument("target", type=Path, help="folder to write; it is replaced")
    options = parser.parse_args()
    match options.verb:
        case "pack":
            pack_job(options.job.resolve(), options.words)
        case "train":
            train_job(options.job.resolve(), options.minutes)
        case "join":
            join(options.source, options.target)


if __name__ == "__main__":
    main()
