"""Make a dashboard in Weights & Biases: curves over steps, tokens and FLOPs, results, samples, speed.

python -m gptexp.dashboard
python -m gptexp.dashboard outputs/sweep-lr-1a2b3c4d
python -m gptexp.dashboard latest --json

RUN or SWEEP names the project and the task's metric; a sweep shows the influence of its settings, too. Needs the extra
gptexp[dashboards], and for saving a key (`wandb login`) and a network.
"""

from typing import Any

from gptexp.cli import print_json
from gptexp.command_line import CommandParser
from gptexp.config.schema import WandbConfig
from gptexp.errors import RunError, UserError, exits_cleanly
from gptexp.extras import require_extra
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import find_run_or_sweep
from gptexp.runs.wandb_access import find_key, is_server_reachable, short_reason
from gptexp.runs.wandb_dashboard import build_dashboard
from gptexp.stages import stage


@exits_cleanly
def main() -> None:
    parser = CommandParser("dashboard", __doc__)
    parser.add_argument("run", nargs="?", help="a run or sweep folder, its name, or 'latest'")
    parser.add_argument("--project", help="W&B project (default: that of the run)")
    parser.add_argument("--entity", help="W&B team or user (default: that of the run, or yours)")
    parser.add_argument(
        "--name", help="name of the dashboard (default: gptexp, or the sweep's name)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the dashboard as JSON, and save nothing"
    )
    args = parser.parse_args()
    require_extra("dashboards", ["wandb_workspaces"])
    logger, arguments = _describe(args.run)
    project = args.project or logger.get("project") or WandbConfig.project
    entity = args.entity or logger.get("entity")
    name = args.name or arguments.get("group") or "gptexp"
    if args.json:
        dashboard = build_dashboard(name, entity or "", project, **arguments)
        spec = dashboard._to_model().spec.model_dump(by_alias=True, exclude_none=True, mode="json")
        print_json(spec)
        return
    _check_can_save()
    try:
        with stage("saving the dashboard"):
            import wandb

            entity = entity or wandb.Api().default_entity or ""
            dashboard = build_dashboard(name, entity, project, **arguments)
            dashboard.save()
    except Exception as error:
        raise RunError(f"W&B did not save the dashboard: {short_reason(error)}") from None
    print(dashboard.url)


def _describe(name: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the logger's settings and the arguments of build_dashboard for the run or sweep of this name."""
    if name is None:
        return {}, {}
    folder = find_run_or_sweep(name)
    if isinstance(folder, RunFolder):
        primary = folder.result().get("primary_metric")
        return folder.config_values()["logger"], {"primary_metric": primary or ""}
    runs = (run for entry in folder.jobs() if (run := folder.run_folder(entry)))
    first = next(runs, None)
    logger = first.config_values()["logger"] if first else {}
    settings = folder.settings()
    return logger, {
        "primary_metric": settings.get("primary_metric") or "",
        "swept_keys": settings.get("keys", []),
        "group": logger.get("group") or folder.name,
    }


def _check_can_save() -> None:
    """Raise UserError where there is no key, or the server does not answer."""
    if not find_key():
        raise UserError(
            "there is no API key of W&B. Type: wandb login, or set WANDB_API_KEY; --json prints the dashboard "
            "without one"
        )
    if not is_server_reachable():
        raise UserError(
            "the server of W&B does not answer. Try again with a network; --json prints the dashboard without one"
        )


if __name__ == "__main__":
    main()
