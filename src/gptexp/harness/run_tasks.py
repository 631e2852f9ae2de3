"""Find tasks of lm-evaluation-harness, evaluate a model on them, and keep the score of each example.

The harness reads its tasks from YAML files: its own, whose data sets lie on the Hugging Face hub, and those of users.
"""

import difflib
import json
import logging
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval import __version__
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from gptexp.config.run_id import as_file_name
from gptexp.errors import UserError
from gptexp.files import write_text
from gptexp.harness.harness_model import HarnessModel
from gptexp.runs.tables import align_columns
from gptexp.stages import stage
from gptexp.wording import first_line

SHOWN_EXAMPLES = 8  # of a task, in W&B
BOOTSTRAP_SAMPLES = 1000  # for the standard error of metrics that are no means
TaskDict = dict[str, dict[str, Any]]  # of the harness: tasks, groups, and the members of groups


@dataclass
class TaskScore:
    """One metric of one task.

    Attributes:
        stderr: standard error; None: it has none.
        chance: accuracy of a random choice; None: it is no accuracy.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    examples: int
    chance: float | None


@dataclass
class HarnessReport:
    scores: list[TaskScore]
    samples: dict[str, list[dict[str, Any]]]  # of each task: the examples, as the harness logs them
    settings: dict[str, Any]  # that the scores depend on
    remarks: list[str]

    def table(self) -> str:
        """Return the scores as a table."""
        rows: list[tuple[str, ...]] = [("task", "metric", "model", "±", "chance", "examples")]
        for score in self.scores:
            numbers = (score.value, score.stderr, score.chance)
            cells = ("" if number is None else f"{number:.4g}" for number in numbers)
            rows.append((score.task, score.metric, *cells, f"{score.examples:,}"))
        return align_columns(rows, "<<>>>>")

    def metrics(self) -> dict[str, float]:
        """Return the scores by name: harness/TASK/acc, harness/TASK/acc_stderr."""
        metrics = {}
        for score in self.scores:
            name = f"harness/{score.task}/{score.metric}"
            metrics[name] = score.value
            if score.stderr is not None:
                metrics[f"{name}_stderr"] = score.stderr
        return metrics

    def texts(self) -> list[dict[str, str]]:
        """Return the prompt, target and answer of the first examples of each task."""
        return [
            {
                "input": str(sample["arguments"][0][0]),
                "reference": str(sample["target"]),
                "output": str(sample["filtered_resps"]),
            }
            for samples in self.samples.values()
            for sample in samples[:SHOWN_EXAMPLES]
        ]

    def as_json(self) -> dict[str, Any]:
        return {"metrics": self.metrics(), "settings": self.settings, "remarks": self.remarks}

    def write(self, folder: Path) -> None:
        """Write TASK.jsonl with a line for each example, and results.json."""
        folder.mkdir(exist_ok=True)
        for task, samples in self.samples.items():
            lines = (json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in samples)
            text = "".join(lines).encode("utf8", "replace").decode("utf8")  # of lone surrogates
            write_text(folder / f"{as_file_name(task)}.jsonl", text)
        values = json.dumps(self.as_json(), indent=1, ensure_ascii=False)
        write_text(folder / "results.json", f"{values}\n")


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
        if name.endswith(".yaml") and not Path(name).is_file():
            raise UserError(f"--harness {name}: there is no such file")
    if not all(_match(name, manager) for name in names):
        with stage("reading the list of tasks"):
            manager = TaskManager(include_path=folder)
    found: TaskDict = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in names:
        matching = _match(name, manager)
        if not matching:
            raise _explain_unknown_task(name, manager.all_tasks)
        try:
            with stage(f"loading the data of {name}"):
                loaded = manager.load(matching)
        except Exception as error:  # whatever `datasets` and the code of a task raise
            raise _explain_loading_error(name, error) from None
        for part, items in found.items():
            items.update(loaded.get(part, {}))
    for name, task in found["tasks"].items():
        if reason := _refuse(task):
            raise UserError(f"--harness {name}: {reason}; choose another task")
    return found


def _refuse(task: Any) -> str:
    """Return why a task is not evaluated; "": it is."""
    if getattr(task, "UNSAFE_CODE", False):
        return "executes code that the model writes, which gptexp does not do"
    if getattr(task, "MULTIMODAL", False):
        return "has images or sound in its prompts, and the model reads text"
    return ""


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
    os.environ["DISABLE_MULTIPROC"] = "1"  # a fork of a process that holds a model may hang
    results = evaluate(
        model,
        tasks,
        limit=limit,
        bootstrap_iters=BOOTSTRAP_SAMPLES,
        apply_chat_template=model.chat_format is not None,
        fewshot_as_multiturn=True,
    )
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
        model.remarks(),
    )


def _set_fewshot(task: Any, count: int | None) -> None:
    """Set the number of answered examples in a prompt. A task that says 0 in its file never has any."""
    own = task.get_config("num_fewshot")
    if own != 0 and (count is not None or own is None):
        task.set_config(key="num_fewshot", value=count or 0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def _match(name: str, manager: Any) -> list[str]:
    """Return the names that a word of --harness stands for."""
    return [name] if name.endswith(".yaml") else manager.match_tasks([name])


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
    counts = [len(sample["arguments"]) for sample in samples]
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


def _explain_loading_error(name: str, error: Exception) -> UserError:
    reason = f"--harness {name}: cannot be loaded ({type(error).__name__}: {first_line(error)})"
    if isinstance(error, ConnectionError):
        advice = (
            "Its data set is not in the cache of this machine: load it once where there is a network, or give a task "
            "with local files: --harness-path FOLDER"
        )
    elif isinstance(error, ImportError):
        advice = "Install the package that it needs"
    elif isinstance(error, FileNotFoundError):
        advice = "Names of files in a task are relative to the current folder"
    else:
        advice = "Correct its YAML file, or choose another task"
    return UserError(f"{reason}. {advice}")
