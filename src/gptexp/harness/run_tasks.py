"""Find tasks of lm-evaluation-harness, evaluate a model on them, and keep the score of each example.

The harness reads its tasks from YAML files: its own, whose data sets lie on the Hugging Face hub, and those of users.
"""

import difflib
import logging
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval import __version__
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from gptexp.errors import UserError
from gptexp.harness.answer_options import read_options
from gptexp.harness.explain_errors import CurrentTask, explain_loading_error
from gptexp.harness.harness_model import HarnessModel
from gptexp.harness.report import HarnessReport, TaskScore
from gptexp.stages import stage
from gptexp.wording import format_count

BOOTSTRAP_SAMPLES = 1000  # for the standard error of metrics that are no means
SUFFIXES = (".yaml", ".yml")
TaskDict = dict[str, dict[str, Any]]  # of the harness: tasks, groups, and the members of groups


def find_tasks(names: Sequence[str], folder: Path | None) -> TaskDict:
    """Return the tasks and groups of these names, with their data.

    Args:
        names: of tasks, groups or tags of the harness, patterns such as `arc_*`, or YAML files of tasks.
        folder: with YAML files of further tasks, which replace those of the harness; None: there are none.

    Raises:
        UserError: there is no such task, or its data cannot be loaded.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # its advice concerns options of its own
    manager = TaskManager(include_path=folder, include_defaults=False)
    for name in names:
        if name.endswith(SUFFIXES) and not Path(name).is_file():
            raise UserError(f"--harness {name}: there is no such file")
    if not all(_match(name, manager) for name in names):
        with stage("reading the list of tasks"):
            manager = TaskManager(include_path=folder)
    found: TaskDict = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in dict.fromkeys(names):
        matching = _match(name, manager)
        if not matching:
            raise _explain_unknown_task(name, manager.all_tasks)
        try:
            with stage(f"loading the data of {name}"):
                loaded = manager.load(matching)
        except Exception as error:  # whatever `datasets` and the code of a task raise
            raise explain_loading_error(name, error, _missing_members(name, manager)) from None
        for task, loaded_task in loaded["tasks"].items():
            other = found["tasks"].get(task)
            if other is not None and other.dump_config() != loaded_task.dump_config():
                raise UserError(
                    f"--harness {name}: another task that is evaluated has the name {task}, too; give one of them "
                    f"another name in its YAML file (task: NAME)"
                )
        for part, items in found.items():
            items.update(loaded.get(part, {}))
    for name, task in found["tasks"].items():
        if reason := _refuse(task):
            raise UserError(f"--harness {name}: {reason}")
    return found


def _refuse(task: Any) -> str:
    """Return why a task is not evaluated; "": it is."""
    if getattr(task, "UNSAFE_CODE", False):
        return "executes code that the model writes, which gptexp does not do; choose another task"
    if getattr(task, "MULTIMODAL", False):
        return "has images or sound in its prompts, and the model reads text; choose another task"
    if task.OUTPUT_TYPE == "generate_until":
        try:
            read_options(task.get_config("generation_kwargs") or {})
        except (TypeError, ValueError) as error:
            return f"generation_kwargs.{error}; correct its YAML file"
    for metric, aggregation in task.aggregation().items():
        if not callable(aggregation):
            return f"the aggregation of its metric {metric} is not known; correct its YAML file"
    return ""


def _missing_members(name: str, manager: Any) -> list[str]:
    """Return the members of a group that are no tasks."""
    entry = manager.task_index.get(name)
    members = (entry.cfg or {}).get("task") if entry else None
    names = members if isinstance(members, list) else []
    return [
        member for member in names if isinstance(member, str) and member not in manager.task_index
    ]


def evaluate_tasks(
    model: HarnessModel, tasks: TaskDict, limit: int | None = None, num_fewshot: int | None = None
) -> HarnessReport:
    """Return the scores of a model on tasks, which `find_tasks` has found.

    Args:
        limit: examples of each task; None: all of them.
        num_fewshot: examples in the prompt, with their answers; None: as each task says.
    """
    # Tasks with code of their own may draw; the seeds are those of the harness's command.
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    for task in tasks["tasks"].values():
        _set_fewshot(task, num_fewshot)
    current = CurrentTask(tasks["tasks"])
    os.environ["DISABLE_MULTIPROC"] = "1"  # a fork of a process that holds a model may hang
    try:
        results = evaluate(
            model,
            tasks,
            limit=limit,
            bootstrap_iters=BOOTSTRAP_SAMPLES,
            apply_chat_template=model.chat_format is not None,
            fewshot_as_multiturn=True,
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the harness and the code of a task raise
        raise current.explain(error) from None
    assert results is not None
    settings = {
        "lm_eval": __version__,
        "limit": limit,
        "num_fewshot": results["n-shot"],
        "chat_format": model.chat_format and model.chat_format.fingerprint(),
        "versions": results["versions"],
    }
    return HarnessReport(
        [score for name in results["results"] for score in _read_scores(name, results)],
        results["samples"],
        settings,
        [*model.remarks(), *_task_remarks(tasks["tasks"], results["samples"], num_fewshot)],
    )


def _task_remarks(
    tasks: dict[str, Any], samples: dict[str, list[dict[str, Any]]], num_fewshot: int | None
) -> list[str]:
    """Return sentences about options that a task does not follow, and about wrong rows of its data."""
    remarks = []
    for name, task in tasks.items():
        if num_fewshot and task.get_config("num_fewshot") == 0:
            remarks.append(
                f"{name}: has no answered examples, since its file says num_fewshot: 0; --num-fewshot {num_fewshot} "
                f"has no effect on it"
            )
        if task.OUTPUT_TYPE == "multiple_choice":
            wrong = {row["doc_id"] for row in samples[name] if _is_outside(row, task)}
            if wrong:
                remarks.append(
                    f"{name}: {format_count(len(wrong), 'example')} with a target outside of the choices, which count "
                    f"as wrong (first: example {min(wrong)})"
                )
    return remarks


def _is_outside(row: dict[str, Any], task: Any) -> bool:
    """Return whether the target of an example is none of its choices."""
    choices = task.doc_to_choice(row["doc"])
    targets = row["target"] if isinstance(row["target"], list) else [row["target"]]
    return any(
        target >= len(choices) if isinstance(target, int) else target not in choices
        for target in targets
    )


def _set_fewshot(task: Any, count: int | None) -> None:
    """Set the number of answered examples in a prompt. A task that says 0 in its file never has any."""
    own = task.get_config("num_fewshot")
    if own != 0 and (count is not None or own is None):
        task.set_config(key="num_fewshot", value=count or 0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def _match(name: str, manager: Any) -> list[str]:
    """Return the names that a word of --harness stands for."""
    return [name] if name.endswith(SUFFIXES) else manager.match_tasks([name])


def _read_scores(name: str, results: dict[str, Any]) -> list[TaskScore]:
    """Return the scores of a task or a group; the harness names a metric and its filter: "acc,none"."""
    values = results["results"][name]
    samples = results["samples"].get(name, [])
    scores = []
    for key, value in values.items():
        metric, comma, answer_filter = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        stderr = values.get(f"{metric}_stderr,{answer_filter}")
        own = [sample for sample in samples if sample["filter"] == answer_filter]
        scores.append(
            TaskScore(
                name,
                metric if answer_filter == "none" else f"{metric} ({answer_filter})",
                float(value),
                stderr if isinstance(stderr, float) else None,
                len(own) or int(values.get("sample_len", 0)),
                _chance(own) if metric in ("acc", "acc_norm") else None,
            )
        )
    return scores


def _chance(samples: list[dict[str, Any]]) -> float | None:
    """Return the accuracy of a random choice among the continuations of each example; None: there is no choice."""
    # acc_mutual_info has a second request for each choice: without the question.
    counts = [
        len(sample["arguments"]) // (2 if "acc_mutual_info" in sample["metrics"] else 1)
        for sample in samples
    ]
    if not counts or min(counts) < 2:
        return None
    return sum(1 / count for count in counts) / len(counts)


def _explain_unknown_task(name: str, known: list[str]) -> UserError:
    near = difflib.get_close_matches(name, known, n=5)
    hint = f" Near ones: {', '.join(near)}." if near else ""
    return UserError(
        f"--harness {name}: there is no such task.{hint} Tasks of your own are YAML files: "
        f"--harness-path FOLDER. `lm-eval ls tasks` prints the names of all {len(known):,} others"
    )
