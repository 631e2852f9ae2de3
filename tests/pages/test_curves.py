"""Curves: thinned without losing a spike, and with the axes that all rows have."""

import math

import pytest
from page_runs import STEPS, write_run

from gptexp.pages.curves import Curve, CurveRun, charts_json, charts_of


def test_a_thin_curve_keeps_its_spikes_its_gaps_and_its_ends():
    values: list[float | None] = [math.sin(step / 900) for step in range(20_000)]
    values[7_777], values[12_345], values[15_000] = 50.0, -50.0, None
    curve = Curve(list(range(20_000)), values).thin(1000)
    assert len(curve.rows) <= 1010
    kept = dict(zip(curve.rows, curve.values, strict=True))
    assert kept[7_777] == 50.0
    assert kept[12_345] == -50.0
    assert kept[15_000] is None
    assert {0, 19_999} <= kept.keys()


def test_a_value_that_is_not_finite_is_a_gap(own_folder):
    folder = write_run(own_folder / "run")
    folder.append_metrics(
        {"step": STEPS + 1, "tokens": 1e5, "seconds": 1e3, "train/loss": math.nan}
    )
    values = charts_json([CurveRun("run", folder)])
    loss = values["charts"]["loss"]["series"][0]
    assert loss["y"][-1] is None
    assert values["runs"][0]["x"].keys() == {"step", "tokens", "seconds"}  # this row has no FLOPs


@pytest.mark.parametrize("count", [1, 6])
def test_many_runs_share_the_points(own_folder, count):
    runs = [write_run(own_folder / f"run{number}") for number in range(count)]
    values = charts_json([CurveRun(run.name, run) for run in runs])
    series = values["charts"]["loss"]["series"]
    assert len(series) == 2 * count
    assert len(series[0]["y"]) <= max(STEPS, 1000 / count)
    assert [entry["color"] for entry in series[:2]] == ([1, 2] if count == 1 else [1, 1])


def test_statistics_of_models_and_callbacks_get_charts():
    rows = [{"step": 1, "train/loss": 2.0, "train/balance": 0.1, "val/balance": 0.2, "mine": 3}]
    charts = {chart.title: chart.columns for chart in charts_of(rows)}
    assert charts["balance"] == {"train/balance": "training", "val/balance": "validation"}
    assert charts["mine"] == {"mine": ""}
