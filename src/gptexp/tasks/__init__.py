"""One task a file: how an example becomes a sequence, how an answer is scored, what the naive baseline is."""

from gptexp.tasks.base import Losses, Task, make_task

__all__ = ["Losses", "Task", "make_task"]
