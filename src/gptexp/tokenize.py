"""Encode texts once, by many processes at a time, into a token store that `data=tokens` trains from.

python -m gptexp.tokenize data=files data.path=texts tokenizer=hf tokenizer.name=gpt2 --to store
python -m gptexp.tokenize data=hub data.name=NAME data.streaming=true tokenizer=bpe --to store --workers 8
sbatch --array=1-64 --wrap='gptexp tokenize data=files data.path=texts ... --to store --part $SLURM_ARRAY_TASK_ID/64'

KEY=VALUE words choose the data and the tokenizer, as for gptexp run. Each input file, or part of a large one, becomes a
part of the store. The same command continues after a kill and leaves out parts that are done, here or on any machine
that shares the folder. Whoever writes the last part writes meta.json. Then: gptexp run task=pretrain data=tokens
data.path=store. docs/data-at-scale.md says more.
"""

import errno
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.checkpoints.find_weights import with_initial_tokenizer
from gptexp.command_line import CommandParser
from gptexp.config.compose import compose_config
from gptexp.config.overrides import explain_option
from gptexp.config.schema.data import URL
from gptexp.data.corpora.find_files import check_paths
from gptexp.distributed.signals import StopSignals
from gptexp.errors import RunError, UserError, exits_cleanly, is_disk_full
from gptexp.machine import available_cpus
from gptexp.stages import stage
from gptexp.wording import format_count

if TYPE_CHECKING:
    from gptexp.config.schema import Config
    from gptexp.data.parts.part_folder import PartFolder

HELPER = "GPTEXP_TOKENIZE_PARENT"  # environment variable of a helper: process id of its parent
POLL_SECONDS = 0.2
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@exits_cleanly
def main() -> None:
    parser = CommandParser("tokenize", __doc__, explain_option)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as for run")
    parser.add_argument(
        "--to", metavar="FOLDER", help="folder of the store: a new one, or to continue"
    )
    parser.add_argument(
        "--part",
        metavar="K/N",
        help="write only part K of N of the store, in a job array (default: 1/1)",
    )
    parser.add_argument(
        "--workers",
        metavar="W",
        type=int,
        help="number of processes (default: that of the CPU cores)",
    )
    args = parser.parse_args()
    path = _read_folder(args.to)
    first, step = _read_share(args.part or "1/1")
    workers = available_cpus() if args.workers is None else args.workers
    if workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    words = args.overrides
    if not any(word.startswith("task=") for word in words):
        words = ["task=pretrain", *words]
    config = compose_config(words)
    _check_data(config, path)
    with StopSignals().handle(), _end_with_parent(), _explain_failures(path):
        folder = _open_folder(config, path)
        share = range(first, len(folder.units), step)
        if not folder.is_store and len(folder.missing(share)) > 1 and workers > 1:
            _start_helpers(folder, share, min(workers, len(folder.missing(share))))
        _write_parts(folder, share)
        if HELPER not in os.environ:
            _finish(folder, config.task.kind)


def _read_folder(text: str | None) -> Path:
    """Return the folder of --to.

    Raises:
        UserError: there is none, or it is an address or a file.
    """
    if not text:
        raise UserError("--to is missing: name the folder of the store, --to store")
    if URL.match(text):
        raise UserError(
            f"--to {text}: an address on the network. Give a folder of this machine, and copy the store when it is "
            f"complete: aws s3 cp --recursive store s3://BUCKET/store"
        )
    path = Path(text).expanduser()
    if path.is_file():
        raise UserError(f"--to {path}: is a file; give a folder")
    return path


@contextmanager
def _end_with_parent() -> Iterator[None]:
    """Stop this process, if it is a helper, as soon as its parent is gone, however that has ended."""
    parent = os.environ.get(HELPER)
    if parent is not None:
        threading.Thread(target=_watch_parent, args=(int(parent),), daemon=True).start()
    yield


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _explain_failures(path: Path) -> Iterator[None]:
    """Name --to where its folder cannot be written.

    Raises:
        RunError: it cannot.
    """
    try:
        yield
    except OSError as error:
        is_inside = str(error.filename or path).startswith(str(path))
        if is_inside and (is_disk_full(error) or error.errno in NOT_WRITABLE):
            raise RunError(
                f"--to {path}: cannot be written ({error.strerror}). Free space or change its permissions, and repeat "
                f"the command, or give another folder"
            ) from None
        raise


def _read_share(text: str) -> tuple[int, int]:
    """Return the first part of a share and the step to the next one.

    Raises:
        UserError: the text is not K/N.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {text}: give K/N, with K from 1 to N: --part 3/64")
    return int(number) - 1, int(count)


def _check_data(config: "Config", path: Path) -> None:
    """Refuse settings that need more than one pass over the data, before anything slow begins.

    Raises:
        UserError: a setting does.
    """
    data = config.data
    if data.kind not in ("files", "hub"):
        raise UserError(
            f"data={data.kind}: gptexp tokenize reads data=files and data=hub. gptexp run encodes other data itself"
        )
    if data.limit is not None:
        raise UserError(
            f"data.limit={data.limit}: counts through all examples, and parts are written side by side. Leave it out"
        )
    if data.split == "tail":
        raise UserError(
            "data.split=tail: needs the length of all texts, and parts are written side by side. Use data.split=exact, "
            "or name held-out files with data.val_path=... and data.test_path=..."
        )
    check_paths(data)
    for source in _input_folders(config):
        if source in (path.resolve(), *path.resolve().parents):
            raise UserError(
                f"--to {path}: lies in {source}, the folder of the texts, and would be read as one. Give a folder "
                f"beside it"
            )


def _input_folders(config: "Config") -> list[Path]:
    """Return the folders whose files are the input, whatever their names."""
    paths = [getattr(config.data, name, None) for name in ("path", "val_path", "test_path")]
    return [Path(path).resolve() for path in paths if isinstance(path, str) and os.path.isdir(path)]


def _open_folder(config: "Config", path: Path) -> "PartFolder":
    config, tokenizer_file = with_initial_tokenizer(config)
    with stage("loading PyTorch"):
        from gptexp.config.cache import cache_folder
        from gptexp.data.corpora import open_corpus
        from gptexp.data.parts.part_folder import PartFolder
        from gptexp.data.parts.plan import check_folder
        from gptexp.data.tokenizers import Tokenizer
        from gptexp.tasks.task import make_task

    layout = make_task(config.task, config.model).layout
    if not layout.stream:
        raise UserError(
            f"task={config.task.kind}: gptexp tokenize writes streams of text, such as task=pretrain reads. gptexp run "
            f"encodes the examples of this task itself"
        )
    check_folder(path)
    tokenizer = Tokenizer.load(tokenizer_file) if tokenizer_file else None
    corpus = open_corpus(config.data, layout.fields, cache_folder(config), layout.medium)
    if config.data.split == "near" and HELPER not in os.environ:
        print(
            "equal texts stay in one split (data.split=exact); near-duplicates are not looked for over parts",
            file=sys.stderr,
        )
    return PartFolder(path, corpus, layout, config.data, config.tokenizer, tokenizer)


def _write_parts(folder: "PartFolder", share: range) -> None:
    """Write the parts of a share in this process, and wait for those that other processes have."""
    is_quiet = HELPER in os.environ
    with stage(lambda: _describe_progress(folder, share), is_quiet=is_quiet):
        while not folder.is_store and folder.missing(share):
            if not list(folder.write_missing(share)):
                time.sleep(POLL_SECONDS)


def _start_helpers(folder: "PartFolder", share: range, count: int) -> None:
    """Write the parts of a share in processes of the same command, and stop all when one fails.

    Raises:
        SystemExit: one failed; its messages are printed.
        RunError: a signal ended one.
    """
    command = [sys.executable, "-m", "gptexp.tokenize", *sys.argv[1:], "--workers", "1"]
    environment = {**os.environ, HELPER: str(os.getpid()), "TOKENIZERS_PARALLELISM": "false"}
    with ExitStack() as stack:
        helpers = []
        for _ in range(count):
            log = stack.enter_context(tempfile.TemporaryFile())
            helper = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops them
            )
            stack.callback(_stop, helper)
            helpers.append((helper, log))
        stack.enter_context(stage(lambda: _describe_progress(folder, share)))
        codes: list[int | None] = [None]
        while None in codes:
            time.sleep(POLL_SECONDS)
            codes = [helper.poll() for helper, _ in helpers]
            for code, (_, log) in zip(codes, helpers, strict=True):
                if code:
                    log.seek(0)
                    sys.stderr.write(log.read().decode(errors="replace"))
                    if code < 0:
                        raise RunError(_explain_signal(-code))
                    raise SystemExit(code)


def _explain_signal(number: int) -> str:
    hint = ", for lack of memory perhaps: try fewer --workers" if number == signal.SIGKILL else ""
    return f"{signal.Signals(number).name} ended a process{hint}. The same command continues"


def _stop(helper: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        helper.terminate()
    helper.wait()


def _describe_progress(folder: "PartFolder", share: range) -> str:
    return (
        f"encoding: {len(share) - len(folder.missing(share))} of {format_count(len(share), 'part')}"
    )


def _finish(folder: "PartFolder", task: str) -> None:
    """Make the parts a store where all are done, and say what to type next."""
    missing = folder.missing()
    if missing and not folder.is_store:
        done = len(folder.units) - len(missing)
        print(
            f"{done} of {len(folder.units)} parts are done; whoever writes the last one makes {folder.path} a store",
            file=sys.stderr,
        )
        return
    with stage(lambda: "comparing all parts with their hashes"):
        folder.merge()
    tokens = folder.count_tokens()
    print(f"data account:\n{folder.account.table()}", file=sys.stderr)
    print(f"  {'tokens':<12}{_describe_tokens(tokens)}", file=sys.stderr)
    word = shlex.quote(f"data.path={folder.path}")
    print(f"To train on it: gptexp run task={task} data=tokens {word}", file=sys.stderr)
    print(folder.path, flush=True)


def _describe_tokens(tokens: dict[str, int]) -> str:
    """Return the number of tokens of each split, and name those that are empty."""
    counts = [f"{split} {count:,}" for split, count in tokens.items() if count]
    empty = [split for split, count in tokens.items() if not count]
    hint = f"; no text is in {' and '.join(empty)}, so nothing is measured there" if empty else ""
    return ", ".join(counts) + hint


if __name__ == "__main__":
    main()
