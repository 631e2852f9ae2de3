"""The scores of a model on tasks of lm-evaluation-harness, as a table, as JSON and as files of a run."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gptexp.config.run_id import as_file_name
from gptexp.files import short_hash, write_text
from gptexp.runs.tables import align_columns

SHOWN_EXAMPLES = 8  # of a task, in W&B
SETTINGS_BY_TASK = ("num_fewshot", "versions")


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
        """Write TASK.jsonl with a line for each example, and add the scores to results.json.

        Scores of another task, or of the same one with another limit, other weights and so on, stay there.
        """
        folder.mkdir(exist_ok=True)
        for task, samples in self.samples.items():
            lines = (json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in samples)
            text = "".join(lines).encode("utf8", "replace").decode("utf8")  # of lone surrogates
            write_text(folder / f"{_file_name(task)}.jsonl", text)
        entries = self._entries()
        current = [(entry["task"], entry["settings"]) for entry in entries]
        earlier = [
            entry
            for entry in _read_entries(folder / "results.json")
            if (entry["task"], entry["settings"]) not in current
        ]
        values = json.dumps({"results": [*earlier, *entries]}, indent=1, ensure_ascii=False)
        write_text(folder / "results.json", f"{values}\n")

    def _entries(self) -> list[dict[str, Any]]:
        """Return the metrics of each task or group, with the settings that they depend on."""
        entries = []
        for task in dict.fromkeys(score.task for score in self.scores):
            own = replace(self, scores=[score for score in self.scores if score.task == task])
            settings = {
                name: value.get(task) if name in SETTINGS_BY_TASK else value
                for name, value in self.settings.items()
            }
            values = {"metrics": own.metrics(), "settings": settings, "remarks": self.remarks}
            entries.append({"task": task, **values})
        return entries


def _file_name(task: str) -> str:
    name = as_file_name(task)  # it is the same for a/b and a_b
    return f"{name}-{short_hash(task)[:8]}" if "/" in task else name


def _read_entries(file: Path) -> list[dict[str, Any]]:
    """Return the entries of results.json; []: there are none, or an earlier version wrote it."""
    try:
        return list(json.loads(file.read_text("utf8"))["results"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
