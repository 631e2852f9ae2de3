"""One task a file: how an example becomes a sequence, how an answer is scored, what the naive baseline is."""

from gptexp.tasks.task import LossSums, Task, make_task

__all__ = ["LossSums", "Task", "make_task"]
