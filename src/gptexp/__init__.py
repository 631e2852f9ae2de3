"""gptexp: experiments with GPT-style Transformers: `python -m gptexp.run --help`, or `GPT` from Python."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {  # imported on first use, so that the command line does not wait for torch
    "GPT": "gptexp.api",
    "register": "gptexp.config.registry",
    "setting": "gptexp.config.setting",
    "DataConfig": "gptexp.config.schema",
    "LoggerConfig": "gptexp.config.schema",
    "ModelConfig": "gptexp.config.schema",
    "OptimConfig": "gptexp.config.schema",
    "ScheduleConfig": "gptexp.config.schema",
    "TaskConfig": "gptexp.config.schema",
    "TokenizerConfig": "gptexp.config.schema",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'gptexp' has no attribute '{name}'")
