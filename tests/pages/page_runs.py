"""Run folders for the tests of pages, written without training."""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

from conftest import TINY

from gptexp.config import compose
from gptexp.config.schema import Config
from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>&\u2028"
STEPS = 200
ENVIRONMENT = {
    "command": ["/usr/bin/python", "/home/me/src/gptexp/run.py", "task=translate", "seed=3"],
    "time": "2026-11-27T01:50:39+0000",
    "python": "3.11.7",
    "versions": {"torch": "2.13.0", "wandb": None},
    "commit": "360090ae",
    "uncommitted": f"+ {HOSTILE}",
    "machine": {"host": HOSTILE, "cpus": 2},
    "device": {"type": "cpu", "threads": 2},
    "processes": 1,
}
DATA = {
    "corpus": {"source": "files", "files": {"train": [[HOSTILE, "0" * 64]]}, "licence": HOSTILE},
    "fingerprint": "030efca26f1258f9",
    "files": {
        f"{split}.{kind}": "0f"
        for split in ("val", "test")
        for kind in ("jsonl", "tokens", "index")
    },
    "splits": {"train": {"sequences": 1207, "tokens": 11937, "targets": 10730, "bytes": 45001}},
    "account": {
        "examples": 1300,
        "left_out": {"too long": {"count": 93, "first": HOSTILE}},
        "cuts": {
            "source": {"examples": 7, "tokens": 9, "longest": 3, "setting": "model.context=32"}
        },
        "duplicates": 4,
        "duplicate_groups": 2,
    },
}


def loss_at(step: int) -> float:
    return 2 + 4 * math.exp(-step / 40)


@cache
def base_config() -> Config:
    return compose.compose_config([*TINY, "task=translate"])


def write_run(
    path: Path, seed: int = 1, lr: float = 0.02, shift: float = 0.0, finished: bool = True
) -> RunFolder:
    """Write a run folder whose losses are those of `loss_at`, `shift` higher, and whose texts are hostile."""
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True)
    config = replace(base_config(), seed=seed, optim=replace(base_config().optim, lr=lr))
    compose.save_config(config, path / "config.yaml")
    rows = []
    for step in range(1, STEPS + 1):
        row = {"step": step, "tokens": 100 * step, "seconds": 0.5 * step, "flops": 1e9 * step}
        row |= {"train/loss": loss_at(step) + shift, "train/lr": lr * (1 - step / STEPS)}
        if step % 20 == 0:
            row |= {"val/loss": loss_at(step) + 0.1 + shift, timings.VALIDATION: 0.2}
        rows.append(row | {timings.TOKENS_PER_SECOND: 200.0, timings.PEAK_MEMORY: 0.5})
    folder.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.write_record("environment", **ENVIRONMENT)
    folder.write_record("data", **DATA)
    if not finished:
        folder.update_result(status="failed", error=f"the disk is full: {HOSTILE}")
        return folder
    folder.write_samples(
        [
            {"input": HOSTILE, "reference": "the sea", "output": "the sea"},
            {"input": "samples/../../secret.png", "reference": "b", "output": "c"},
        ]
    )
    metrics = {
        "val/loss": 2.1,
        "test/chrf": 61.5 + shift,
        "test/low/chrf": 58.0,
        "test/high/chrf": 65.0,
    }
    folder.update_result(
        status="finished",
        error=None,
        steps=STEPS,
        tokens=100 * STEPS,
        train_seconds=0.5 * STEPS,
        tokens_per_second=200.0,
        parameters=923_648,
        precision="32",
        primary_metric="test/chrf",
        higher_is_better=True,
        metrics={**metrics, "test/baseline/chrf": 36.5, "test/before/chrf": 20.0},
        remarks=[f"by test/chrf the model is better than the baseline ({HOSTILE})"],
    )
    return folder


def add_insight(folder: RunFolder) -> None:
    """Write the record of one layer with two heads over three tokens: each token reads itself and the first alike."""
    import base64

    weights = [255, 0, 0, 128, 127, 0, 128, 0, 127]
    folder.write_record(
        "insight",
        sample={
            "tokens": ["The", HOSTILE, " sea", " eos"],
            "losses": [None, None, 0.2, 5.0],
            "prompt_tokens": 2,
        },
        attention={
            "layers": 1,
            "heads": 2,
            "tokens": 3,
            "weights": base64.b64encode(bytes(2 * weights)).decode(),
        },
    )


def read_charts(page: str) -> dict:
    """The JSON that a page draws its charts from."""
    source = page.split('id="charts">')[1].split("</script>")[0]
    return json.loads(source)
