"""gptexp: experiments with GPT-style Transformers: `python -m gptexp.run --help`, or `GPT` from Python."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["GPT"]


def __getattr__(name: str) -> Any:
    if name == "GPT":  # here, so that the command line does not wait for torch
        from gptexp.api import GPT

        return GPT
    raise AttributeError(f"module 'gptexp' has no attribute '{name}'")
