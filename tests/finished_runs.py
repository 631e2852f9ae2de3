"""Run folders as a translation leaves them, without a training."""

import json
from pathlib import Path
from typing import Any

import pytest

from gptexp.runs.run_folder import RunFolder

CONFIG = {
    "model": {"size": "nano"},
    "data": {"kind": "files", "path": "pairs.jsonl"},
    "task": {"kind": "translate", "test_examples": 40},
    "optim": {"kind": "adamw", "lr": 0.01},
    "trainer": {"max_steps": 100, "devices": 1},
    "logger": {"kind": "none"},
    "outputs": "outputs",
}


class Runs:
    """Makes finished run folders in outputs/."""

    outputs = Path("outputs")

    def __call__(
        self,
        name: str,
        scores: list[float] | None = None,
        metrics: dict[str, float] | None = None,
        seed: int = 1,
        texts: str = "t",
        source: str = "5eed",
        **settings: Any,
    ) -> RunFolder:
        """Make a run whose metric f1 is the mean of the scores; without scores, one of an earlier version.

        Args:
            texts: identifies the test split.
            settings: GROUP__NAME=VALUE for those that differ from CONFIG.
        """
        run = RunFolder(self.outputs / name)
        run.path.mkdir(parents=True)
        config = {**json.loads(json.dumps(CONFIG)), "seed": seed}
        for key, value in settings.items():
            group, _, leaf = key.partition("__")
            config[group][leaf] = value
        (run.path / "config.yaml").write_text(json.dumps(config))
        run.write_record("environment", source=source, python="3.11", versions={"torch": "2"})
        files = {f"test.{kind}": texts for kind in ("jsonl", "tokens", "index")}
        run.write_record("data", fingerprint=texts, files=files)
        values = {"test/f1": sum(scores) / len(scores)} if scores else {}
        run.write_record(
            "result",
            status="finished",
            primary_metric="test/f1",
            higher_is_better=True,
            metrics=values | (metrics or {}),
            steps=100,
            train_seconds=10.0,
        )
        rows = [
            {
                "split": "test",
                "unit": "example",
                "id": f"{texts}{number}",
                "group": f"{texts}{number}",
                "input": f"text {number}",
                "reference": f"answer {number}",
                "output": f"output of {name}",
                "scores": {"f1": score},
            }
            for number, score in enumerate(scores or [])
        ]
        if rows:
            run.write_scores(rows)
        return run


@pytest.fixture
def make_run() -> Runs:
    return Runs()
