"""torch.compile: whether it works on this machine, and the blocks of a model.

It needs a compiler, headers and folders that may be missing.

python -m gptexp.distributed.compiler [auto | cpu | gpu]       compiles a few lines; exit code 1 if that fails
"""

import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gptexp.errors import UserError
from gptexp.stages import stage
from gptexp.wording import first_line

if TYPE_CHECKING:
    from torch import nn

MAX_SECONDS = 300


def check_compiler(accelerator: str) -> None:
    """Compile a few lines in a process of their own, before a run prepares its data.

    Raises:
        UserError: torch.compile fails; the message has its reason.
    """
    command = [sys.executable, "-m", __name__, accelerator]
    try:
        with stage("trying torch.compile"):
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=MAX_SECONDS
            )
    except subprocess.TimeoutExpired:
        reason = f"no end after {MAX_SECONDS} s"
    else:
        if done.returncode == 0:
            return
        reason = next(iter(done.stdout.splitlines()[-1:]), f"exit code {done.returncode}")
    raise UserError(
        f"trainer.compile=true: torch.compile does not work on this machine ({reason}). "
        f"Install a C++ compiler, such as g++, and Python's headers, or set trainer.compile=false"
    )


def compile_blocks(
    blocks: "Iterable[nn.Module]", backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Compile each block in place: checkpoints keep the plain names."""
    import torch

    # DDP overlaps its exchange with the backward pass of other blocks: no need to cut the graph of one at its buckets.
    torch._dynamo.config.optimize_ddp = False
    for block in blocks:
        block.compile(backend=backend)


def main() -> None:
    import torch

    from gptexp.distributed.devices import pick_device

    square = torch.ones(8, 8, device=pick_device(sys.argv[1]), requires_grad=True)
    try:
        torch.compile(lambda x: (x @ x).relu() + 1)(square).sum().backward()
    except Exception as error:
        print(first_line(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
