"""One task a file: how an example becomes a sequence, how an answer is scored, what the naive baseline is."""

from gptexp.tasks.task import Task, make_task

__all__ = ["Task", "make_task"]
