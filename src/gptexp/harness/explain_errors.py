"""Explain in one message what the harness and the code of its tasks raise."""

from typing import Any

from gptexp.data.chat_format import RefusedConversationError
from gptexp.errors import UserError
from gptexp.wording import first_line

RECORDED = ("build_all_requests", "apply_filters", "process_results", "aggregation")


class CurrentTask:
    """The task that the harness works on, for messages: it calls methods of the tasks one after the other."""

    def __init__(self, tasks: dict[str, Any]) -> None:
        self.name, self.task = next(iter(tasks.items()))
        for name, task in tasks.items():
            for method in RECORDED:
                setattr(task, method, self._record(name, task, getattr(task, method)))

    def _record(self, name: str, task: Any, method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.name, self.task = name, task
            return method(*args, **options)

        return call

    def explain(self, error: Exception) -> UserError:
        """Return the message for an error that the evaluation has raised."""
        if isinstance(error, RefusedConversationError):
            advice = "Leave out --harness-chat, or take a model whose template has such messages"
            if self.task.get_config("description"):
                advice = f"The task's description is a system message. {advice}"
            return UserError(f"--harness {self.name}: {error}. {advice}")
        if isinstance(error, UserError):
            return error
        reason = f"{type(error).__name__}: {first_line(error)}"
        if "larger than population" in str(error):
            reason = "it has fewer examples to choose answered ones from than the prompt needs"
            advice = "Give a smaller --num-fewshot"
        else:
            number = _find_example(error)
            reason = f"example {number}: {reason}" if number is not None else reason
            advice = "Correct its YAML file or its data (doc_to_text, doc_to_choice, doc_to_target)"
        return UserError(f"--harness {self.name}: cannot be evaluated ({reason}). {advice}")


def _find_example(error: Exception) -> int | None:
    """Return the number of the example that the harness was at; None: it was at none."""
    number = None
    trace = error.__traceback__
    while trace is not None:
        number = trace.tb_frame.f_locals.get("doc_id", number)
        trace = trace.tb_next
    return number


def explain_loading_error(name: str, error: Exception, missing: list[str]) -> UserError:
    """Return the message for a task that cannot be loaded.

    Args:
        missing: members of a group that do not exist.
    """
    cause = error
    while "generating the dataset" in str(cause) and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    reason = f"{type(cause).__name__}: {first_line(cause)}"
    advice = "Correct its YAML file, or choose another task"
    if missing:
        reason = f"there is no task {', '.join(missing)}, which is a member of the group"
    elif isinstance(error, StopIteration):
        reason, advice = "a file of its data is empty", "Correct the file"
    elif cause is not error:
        advice = "Correct the row of its data"
    elif isinstance(error, ConnectionError):
        advice = (
            "Its data set is not in the cache of this machine: load it once where there is a network, or give a task "
            "with local files: --harness-path FOLDER"
        )
    elif isinstance(error, ImportError) and "function" in str(error):
        advice = "Put the Python file of its !function beside its YAML file, or install what that imports"
    elif isinstance(error, ImportError):
        advice = "Install the package that it needs"
    elif isinstance(error, FileNotFoundError):
        advice = "Names of files in a task are relative to the current folder"
    elif isinstance(error, KeyError):
        key = error.args[0] if error.args else None
        reason = f"its data has no split and no column {key!r}"
        if key is None:
            reason = "a metric of metric_list is not known"
        elif " " in str(key):
            reason = str(key).splitlines()[0]
    elif isinstance(error, TypeError) and not str(error):
        reason = "doc_to_text, doc_to_choice or doc_to_target is missing"
    elif "is undefined" in str(error):
        advice = f"Its data has no such column. {advice}"
    return UserError(f"--harness {name}: cannot be loaded ({reason}). {advice}")
