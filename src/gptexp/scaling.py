"""Fit a scaling law to the runs of a ladder, and predict the loss of the next one before it is trained.

python -m gptexp.scaling latest
python -m gptexp.scaling sweep-ladder-9c8d7e6f experiment=rung_256
python -m gptexp.scaling 'outputs/pretrain-rung*' --sweep-file ladder experiment=rung_256

RUN and SWEEP words name the rungs. KEY=VALUE words are those of gptexp run for the next rung; a sweep adds its own file
and the settings that all its jobs have. A prediction is kept with its date in predictions.jsonl, in the folder of the
sweep or beside the runs, and printed with the measured loss once the run has finished. docs/scaling.md has an example.
"""

import json
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptexp.cli import print_json
from gptexp.command_line import CommandParser
from gptexp.config import package_data
from gptexp.config.compose import compose_config
from gptexp.config.keys import result_settings
from gptexp.config.overrides import explain_option
from gptexp.config.run_id import folder_name, folder_prefix
from gptexp.errors import UserError, exits_cleanly, nearest
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import SweepFolder, find_sweep
from gptexp.stages import stage
from gptexp.wording import format_count

if TYPE_CHECKING:
    from gptexp.config.schema import Config
    from gptexp.planning.ladder import Ladder, Size
    from gptexp.statistics.scaling_law import Prediction

OUTPUTS = Path("outputs")
NAMES = {"flops": "training FLOPs", "parameters": "parameters of the blocks"}


@exits_cleanly
def main() -> None:
    parser = CommandParser("scaling", __doc__, explain_option)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SWEEP | RUN | KEY=VALUE",
        help="rungs, and settings of the next",
    )
    parser.add_argument("--metric", metavar="NAME", help="loss to fit (default: test/loss)")
    parser.add_argument(
        "--sweep-file", metavar="NAME", help="sweep file that the next rung is a job of"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    args = parser.parse_args()
    words = [word for word in args.words if "=" in word]
    names = [word for word in args.words if "=" not in word]
    if not names:
        raise UserError("no ladder: name a sweep, runs, or a pattern in quotes such as 'outputs/*'")
    runs, sweep = _find_runs(names)
    config, command = _compose_next(words, args.sweep_file, sweep)

    with stage("loading PyTorch"):
        from gptexp.planning.ladder import describe_repetition, measure_size, read_ladder

    ladder = read_ladder(runs, args.metric)
    largest = ladder.rungs[-1]
    report: dict[str, Any] = {"metric": ladder.metric, "rungs": _rungs(ladder), "predictions": []}
    remarks = [describe_repetition(ladder, rung.size, rung.runs[0].name) for rung in ladder.rungs]
    remarks += [f"assumed: {text}" for text in ladder.assumptions]
    if len(ladder.rungs) < 4 and config is None:
        raise UserError(
            f"{format_count(len(ladder.rungs), 'size')}: a law that is checked on the largest needs at least 4; "
            f"name runs of further sizes"
        )
    if len(ladder.rungs) >= 4:
        checks, reasons = _predict(ladder, largest.size, without_last=True)
        remarks += [f"no check by {reason}" for reason in reasons]
        if checks:
            report["check"] = {axis: asdict(check) for axis, check in checks.items()}
            report["check"]["measured"] = largest.mean
    file = (sweep.path if sweep else runs[0].path.parent) / "predictions.jsonl"
    if config is not None:
        size, name = measure_size(config), folder_name(config)
        ladder.check(config, "the next rung")
        remarks.append(describe_repetition(ladder, size, name))
        if size.flops <= largest.size.flops:
            remarks.append(f"{name} is no larger than the largest rung: this is no extrapolation")
        laws, reasons = _predict(ladder, size)
        if not laws:
            raise UserError(f"no prediction by {reasons[0]}")
        remarks += [f"no prediction by {reason}" for reason in reasons]
        _keep(file, name, command, config, ladder, size, laws)
    report["predictions"] = _with_outcomes(file, ladder.metric)
    report["remarks"] = [remark for remark in remarks if remark]
    if args.json:
        print_json(report)
    else:
        print(_as_text(report))


def _find_runs(names: list[str]) -> tuple[list[RunFolder], SweepFolder | None]:
    """Return the runs that words name, and the sweep if it is the only word; latest is the latest sweep."""
    from gptexp.comparing.subjects import find_subjects

    sweep = None
    if len(names) == 1:
        try:
            sweep = find_sweep(names[0], OUTPUTS)
        except UserError:
            if names[0] == "latest":
                raise
    words = [str(sweep.path)] if sweep else names
    return [run for subject in find_subjects(words, OUTPUTS) for run in subject.runs], sweep


def _compose_next(
    words: list[str], sweep_file: str | None, sweep: SweepFolder | None
) -> "tuple[Config | None, str]":
    """Compose the config of the next rung, and return the command that trains it; None: there are no words for it."""
    if not words:
        return None, ""
    file = None
    if sweep is not None:
        shared = set.intersection(*(set(job.words) for job in sweep.jobs()))
        own = {word.split("=")[0] for word in words}
        kept = [word for word in sorted(shared) if word.split("=")[0] not in {*own, "seed"}]
        words = [*kept, *words]
        sweep_file = sweep_file or _sweep_file_of(sweep)
    if sweep_file is not None:
        shipped = {path.stem: path for path in package_data.sweep_files()}
        files = [Path(sweep_file), Path("sweeps") / f"{sweep_file}.yaml"]
        file = next((path for path in files if path.is_file()), shipped.get(sweep_file))
        if file is None:
            raise UserError(
                f"--sweep-file {sweep_file}: is neither a file nor a shipped sweep.{nearest(sweep_file, shipped)} "
                f"Shipped: {', '.join(shipped)}"
            )
    config = compose_config(words, file)
    if file is not None:  # whose sweep may have several seeds
        words = ["-cn", file.stem, "-cd", str(file.parent), *words, f"seed={config.seed}"]
    return config, f"gptexp run {shlex.join(words)}"


def _sweep_file_of(sweep: SweepFolder) -> str | None:
    """Return the sweep file of a sweep's command, from `-cn NAME -cd FOLDER`; None: it has none."""
    values: dict[str, str] = {}
    command = [str(word) for word in sweep.settings().get("command", [])]
    for word, following in zip(command, [*command[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in ("-cn", "--config-name", "-cd", "--config-dir"):
            values[option.replace("--config-", "-c")[:3]] = value if equals else following
    if "-cn" not in values:
        return None
    path = Path(values.get("-cd", "sweeps")) / f"{values['-cn']}.yaml"
    return str(path) if path.is_file() else values["-cn"]


def _predict(
    ladder: "Ladder", size: "Size", without_last: bool = False
) -> "tuple[dict[str, Prediction], list[str]]":
    """Return the predictions by axis, and for each axis without one the reason, after the axis' name."""
    laws: dict[str, Prediction] = {}
    reasons = []
    for axis, name in NAMES.items():
        try:
            laws[axis] = ladder.predict(axis, size, without_last)
        except UserError as error:
            reasons.append(f"{name}: {error}")
    return laws, reasons


def _rungs(ladder: "Ladder") -> list[dict[str, Any]]:
    return [
        {**asdict(rung.size), "runs": [run.name for run in rung.runs], "losses": rung.losses}
        for rung in ladder.rungs
    ]


def _keep(
    file: Path,
    name: str,
    command: str,
    config: "Config",
    ladder: "Ladder",
    size: "Size",
    laws: "dict[str, Prediction]",
) -> None:
    """Append a prediction with its date, unless the run has finished: then it would be none.

    Raises:
        UserError: the run has finished, with this or another seed.
    """
    if finished := _find_finished(file, config):
        raise UserError(
            f"{finished}: has finished, and its loss is known. Predict a run before it is trained, "
            f"or leave out KEY=VALUE for the check without the largest rung"
        )
    entry = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "run": name,
        "command": command,
        "metric": ladder.metric,
        "size": asdict(size),
        "from": [run.name for rung in ladder.rungs for run in rung.runs],
        "laws": {axis: asdict(law) for axis, law in laws.items()},
    }
    for known in _read_predictions(file):
        if {**known, "date": entry["date"]} == json.loads(json.dumps(entry)):
            return
    with file.open("a", encoding="utf8") as out:
        out.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _with_outcomes(file: Path, metric: str) -> list[dict[str, Any]]:
    """Return the predictions that a file keeps, each with the loss that its run has reached, if it has finished."""
    entries = _read_predictions(file)
    for entry in entries:
        folders = (file.parent / entry["run"], file.parent.parent / entry["run"])
        results = [RunFolder(folder).result() for folder in folders if folder.is_dir()]
        finished = [result for result in results if result.get("status") == "finished"]
        entry["measured"] = finished[0]["metrics"].get(metric) if finished else None
    return entries


def _read_predictions(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text("utf8").splitlines() if line.strip()]


def _find_finished(file: Path, config: "Config") -> str | None:
    """Return the name of a finished run with these settings, whatever its seed; None: there is none."""
    wanted = _without_seed(config)
    for folder in (file.parent, file.parent.parent):
        for path in sorted(folder.glob(f"{folder_prefix(config)}*/config.yaml")):
            run = RunFolder(path.parent)
            if run.result().get("status") == "finished" and _without_seed(run.config()) == wanted:
                return run.name
    return None


def _without_seed(config: "Config") -> dict[str, Any]:
    values = {key: value for key, value in result_settings(config).items() if key != "seed"}
    return dict(json.loads(json.dumps(values, default=str)))


def _as_text(report: dict[str, Any]) -> str:
    metric = report["metric"]
    lines = [f"{'training FLOPs':>15} {'parameters':>12} {'tokens':>12}  {metric}"]
    for rung in report["rungs"]:
        losses = ", ".join(f"{loss:.4f}" for loss in rung["losses"])
        lines.append(
            f"{rung['flops']:>15.3g} {rung['parameters']:>12,} {rung['tokens']:>12,}  {losses}"
        )
    if check := report.get("check"):
        lines.append("\ncheck: the largest rung, predicted from the others")
        laws = {axis: check[axis] for axis in NAMES if axis in check}
        lines += _law_lines(laws, check["measured"])
    for entry in report["predictions"]:
        lines.append(
            f"\npredicted on {entry['date']} from {len(entry['from'])} runs: {entry['run']}"
        )
        lines += _law_lines(entry["laws"], entry["measured"])
        if entry["measured"] is None:
            lines.append(f"  to measure it: {entry['command']}")
    return "\n".join([*lines, *(f"\n{remark}" for remark in report["remarks"])])


def _law_lines(laws: dict[str, dict[str, Any]], measured: float | None) -> list[str]:
    def error(loss: float) -> str:
        return "" if measured is None else f" ({100 * (loss / measured - 1):+.1f} %)"

    lines = []
    for axis, law in laws.items():
        held = ""
        if measured is not None:
            held = "; covers it" if law["low"] <= measured <= law["high"] else "; misses it"
        lines.append(
            f"  by {NAMES[axis] + ':':<26}{law['loss']:.4f}{error(law['loss'])}, "
            f"95 % interval {law['low']:.3f} to {law['high']:.3f}{held}"
        )
    law = next(iter(laws.values()))
    lines.append(f"  as the largest rung:         {law['as_last']:.4f}{error(law['as_last'])}")
    lines.append(f"  straight line in log-log:    {law['straight']:.4f}{error(law['straight'])}")
    if measured is not None:
        lines.append(f"  measured:                    {measured:.4f}")
    return lines


if __name__ == "__main__":
    main()
