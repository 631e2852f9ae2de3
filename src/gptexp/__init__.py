"""gptexp: experiments with GPT-style Transformers.

On the command line: `python -m gptexp.run --help`. In Python: `from gptexp import GPT, load, train`.
"""

import sys
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptexp.api import GPT as GPT
    from gptexp.api import load as load
    from gptexp.api import train as train
    from gptexp.config.compose import compose_config as compose_config
    from gptexp.config.registry import register as register
    from gptexp.config.schema import Config as Config
    from gptexp.config.schema import DataConfig as DataConfig
    from gptexp.config.schema import LoggerConfig as LoggerConfig
    from gptexp.config.schema import ModelConfig as ModelConfig
    from gptexp.config.schema import OptimConfig as OptimConfig
    from gptexp.config.schema import ScheduleConfig as ScheduleConfig
    from gptexp.config.schema import TaskConfig as TaskConfig
    from gptexp.config.schema import TokenizerConfig as TokenizerConfig
    from gptexp.setting_field import setting as setting

__version__ = "0.1.0"

_MODULES = {  # imported on first use, so that the command line does not wait for torch
    "GPT": "gptexp.api",
    "load": "gptexp.api",
    "train": "gptexp.api",
    "Config": "gptexp.config.schema",
    "compose_config": "gptexp.config.compose",
    "register": "gptexp.config.registry",
    "setting": "gptexp.setting_field",
    "DataConfig": "gptexp.config.schema",
    "LoggerConfig": "gptexp.config.schema",
    "ModelConfig": "gptexp.config.schema",
    "OptimConfig": "gptexp.config.schema",
    "ScheduleConfig": "gptexp.config.schema",
    "TaskConfig": "gptexp.config.schema",
    "TokenizerConfig": "gptexp.config.schema",
}
__all__ = list(_MODULES)


def _print_exception(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print one line for Ctrl-C, which may come before a verb handles it, and the traceback of any other exception."""
    if issubclass(kind, KeyboardInterrupt):
        print("gptexp: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[:1] == ["-m"]:  # `python -m gptexp.VERB` imports this package before it reads the verb
    sys.excepthook = _print_exception


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'gptexp' has no attribute '{name}'")
