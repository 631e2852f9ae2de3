"""One rank that our launcher starts: it ends with the launcher, and writes a failure to a file.

python -m gptexp.training.rank RUN_FOLDER
"""

import os
import sys
import threading
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

from gptexp.config.plugins import has_outside_code
from gptexp.distributed import launcher
from gptexp.distributed.environment import ProcessInfo
from gptexp.errors import OutOfMemoryError, Preempted, explain_error
from gptexp.optional_imports import hide_optional_packages
from gptexp.output import open_missing_streams, unfailing_output
from gptexp.runs.run_folder import RunFolder
from gptexp.stages import stage


def main(path: Path) -> None:
    exit_with_parent(int(os.environ[launcher.PARENT]))
    rank = ProcessInfo.from_env().rank
    try:
        folder = RunFolder(path)
        config = folder.config()
        imports = nullcontext() if has_outside_code(config) else hide_optional_packages()
        with stage("loading PyTorch"), imports:
            from gptexp.distributed.process_group import ProcessGroup
            from gptexp.training.fit import fit
        with stage(f"{path}: at work", is_quiet=not config.trainer.progress):
            fit(folder, config)
        ProcessGroup.exit()
    except Preempted:
        ProcessGroup.exit(Preempted.code)
        os._exit(Preempted.code)  # before the process group was initialised
    except OutOfMemoryError:
        os._exit(OutOfMemoryError.code)
    except Exception as error:
        launcher.write_failure(path, rank, str(explain_error(error) or traceback.format_exc()))
        os._exit(1)


def exit_with_parent(parent: int) -> None:
    """End this process when the launcher has gone: one that is killed cannot signal its ranks."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    if os.getppid() != parent:  # it has gone before this line
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    open_missing_streams()
    with unfailing_output("stdout", "stderr"):
        main(Path(sys.argv[1]))
