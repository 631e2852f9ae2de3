"""The dashboard of a project in Weights & Biases: curves over steps, tokens and FLOPs, results, samples, speed, sweeps.

It needs the package wandb-workspaces (the extra `dashboards`).
"""

from collections.abc import Sequence
from typing import Any

from gptexp.runs import timings

CURVES = {  # axis -> its label
    "step": "steps",
    "tokens": "tokens",
    "flops": "FLOPs",
    "seconds": "seconds of training",
}
SPEED = (timings.TOKENS_PER_SECOND, timings.MFU, timings.TFLOPS, timings.PEAK_MEMORY)
COLUMNS = ("run:displayName", "summary:val/loss", "summary:parameters", "summary:tokens")


def build_dashboard(
    name: str,
    entity: str,
    project: str,
    primary_metric: str = "",
    swept_keys: Sequence[str] = (),
    group: str | None = None,
) -> Any:
    """Return a wandb_workspaces.workspaces.Workspace; its method `save` needs a key and a network.

    Args:
        primary_metric: of the task, such as test/rougeL; "": only losses are shown.
        swept_keys: settings of a sweep, whose influence is shown.
        group: show the runs of this group alone; None: all runs of the project.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.expr import And

    def curve(title: str, axis: str, *names: str) -> Any:
        return wr.LinePlot(
            title=title,
            x=wr.Metric(axis),
            y=[wr.Metric(name) for name in names],
            title_x=CURVES[axis],
            log_x=axis == "flops",
        )

    target = primary_metric or "val/loss"
    sections = [
        ws.Section(
            name="Loss",
            is_open=True,
            panels=[
                *(
                    curve(f"validation loss over {label}", x, "val/loss")
                    for x, label in CURVES.items()
                ),
                curve("training loss", "step", "train/loss"),
                curve("learning rate", "step", "train/lr"),
            ],
        ),
        ws.Section(
            name="Results",
            is_open=True,
            panels=[
                wr.BarPlot(title=target, metrics=[wr.Metric(target)]),
                wr.ScatterPlot(
                    title=f"{target} over parameters",
                    x=wr.SummaryMetric("parameters"),
                    y=wr.SummaryMetric(target),
                    log_x=True,
                ),
                wr.RunComparer(diff_only=True),
            ],
        ),
        ws.Section(
            name="Samples", is_open=True, panels=[wr.WeavePanelSummaryTable(table_name="samples")]
        ),
        ws.Section(name="Speed", panels=[curve(name, "step", name) for name in SPEED]),
    ]
    if swept_keys:
        columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in swept_keys]
        columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(target)))
        panels = [
            wr.ParallelCoordinatesPlot(title="settings and result", columns=columns),
            wr.ParameterImportancePlot(with_respect_to=target),
            wr.WeavePanelSummaryTable(table_name="jobs"),
        ]
        sections.insert(0, ws.Section(name="Sweep", is_open=True, panels=panels))
    pinned = [*COLUMNS, *([f"summary:{target}"] if primary_metric else [])]
    runs = ws.RunsetSettings(pinned_columns=pinned)
    if group:
        runs.filters = And(ws.Metric("Group") == group)
    return ws.Workspace(
        name=name,
        entity=entity,
        project=project,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=20),
        runset_settings=runs,
    )
