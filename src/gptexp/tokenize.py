"""Encode texts once, by many processes at a time, into a token store that `data=tokens` trains from.

python -m gptexp.tokenize data=files data.path=texts tokenizer=hf tokenizer.name=gpt2 --to store
python -m gptexp.tokenize data=hub data.name=NAME data.streaming=true tokenizer=bpe --to store --workers 8
sbatch --array=1-64 --wrap='gptexp tokenize data=files data.path=texts ... --to store --part $SLURM_ARRAY_TASK_ID/64'

KEY=VALUE words choose the data and the tokenizer, as for gptexp run. Each input file, or part of a large one, becomes a
part of the store. The same command continues after a kill and leaves out parts that are done, here or on any machine
that shares the folder. Whoever writes the last part writes meta.json. Then: gptexp run task=pretrain data=tokens
data.path=store. docs/data-at-scale.md says more.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.checkpoints.find_weights import with_initial_tokenizer
from gptexp.command_line import CommandParser
from gptexp.config.compose import compose_config
from gptexp.config.overrides import explain_option
from gptexp.data.corpora.find_files import check_paths
from gptexp.distributed.signals import StopSignals
from gptexp.errors import RunError, UserError, exits_cleanly
from gptexp.machine import available_cpus
from gptexp.stages import stage
from gptexp.wording import format_count

if TYPE_CHECKING:
    from gptexp.config.schema import Config
    from gptexp.data.parts.part_folder import PartFolder

HELPER = "GPTEXP_TOKENIZE_PARENT"  # environment variable of a helper: process id of its parent
POLL_SECONDS = 0.2


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
    if not args.to:
        raise UserError("--to is missing: name the folder of the store, --to store")
    first, step = _read_share(args.part or "1/1")
    workers = available_cpus() if args.workers is None else args.workers
    if workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    words = args.overrides
    if not any(word.startswith("task=") for word in words):
        words = ["task=pretrain", *words]
    config = compose_config(words)
    _check_data(config)
    with StopSignals().handle():
        folder = _open_folder(config, Path(args.to).expanduser())
        share = range(first, len(folder.units), step)
        if not folder.is_store:
            if workers == 1 or len(folder.missing(share)) < 2:
                _write_parts(folder, share)
            else:
                _start_helpers(folder, share, min(workers, len(folder.missing(share))))
        _finish(folder, config.task.kind)


def _read_share(text: str) -> tuple[int, int]:
    """Return the first part of a share and the step to the next one.

    Raises:
        UserError: the text is not K/N.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {text}: give K/N, with K from 1 to N: --part 3/64")
    return int(number) - 1, int(count)


def _check_data(config: "Config") -> None:
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


def _open_folder(config: "Config", path: Path) -> "PartFolder":
    config, tokenizer_file = with_initial_tokenizer(config)
    with stage("loading PyTorch"):
        from gptexp.config.cache import cache_folder
        from gptexp.data.corpora import open_corpus
        from gptexp.data.parts.part_folder import PartFolder
        from gptexp.data.tokenizers import Tokenizer
        from gptexp.tasks.task import make_task

    layout = make_task(config.task, config.model).layout
    if not layout.stream:
        raise UserError(
            f"task={config.task.kind}: gptexp tokenize writes streams of text, such as task=pretrain reads. gptexp run "
            f"encodes the examples of this task itself"
        )
    if path.is_file():
        raise UserError(f"--to {path}: is a file; give a folder")
    tokenizer = Tokenizer.load(tokenizer_file) if tokenizer_file else None
    corpus = open_corpus(config.data, layout.fields, cache_folder(config), layout.medium)
    if config.data.split == "near" and HELPER not in os.environ:
        print(
            "equal texts stay in one split (data.split=exact); near-duplicates are not looked for over parts",
            file=sys.stderr,
        )
    return PartFolder(path, corpus, layout, config.data, config.tokenizer, tokenizer)


def _write_parts(folder: "PartFolder", share: range) -> None:
    """Write the parts of a share in this process. A helper stops when its parent is gone."""
    parent = os.environ.get(HELPER)
    with stage(lambda: _describe_progress(folder, share), is_quiet=parent is not None):
        for _ in folder.write_missing(share):
            if parent is not None and os.getppid() != int(parent):
                return


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
        while any(helper.poll() is None for helper, _ in helpers) or any(
            helper.returncode for helper, _ in helpers
        ):
            for helper, log in helpers:
                if helper.returncode:
                    log.seek(0)
                    sys.stderr.write(log.read().decode(errors="replace"))
                    if helper.returncode < 0:
                        raise RunError(_explain_signal(-helper.returncode))
                    raise SystemExit(helper.returncode)
            time.sleep(POLL_SECONDS)


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
    folder.merge()
    if HELPER not in os.environ:
        print(folder.account.summary(), file=sys.stderr)
        print(
            f"To train on it: gptexp run task={task} data=tokens data.path={folder.path}",
            file=sys.stderr,
        )
        print(folder.path, flush=True)


if __name__ == "__main__":
    main()
