"""Which trackers have the whole curve of a run: one that comes later receives the rows that it has missed.

loggers.json lists the settings of each tracker that was opened, and `until`, the last step that it has received; null
where it has received all.
"""

import json
from dataclasses import asdict
from typing import Any

from gptexp.config.schema import Config
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.trackers import Tracker, check_tracker, open_tracker


def open_complete_tracker(config: Config, folder: RunFolder) -> Tracker:
    """Open the tracker that the config names, and log the rows of metrics.jsonl that it lacks.

    Raises:
        UserError: its package is not installed.
    """
    tracker = _open_and_fill(config, folder)
    _record(config, folder)
    return tracker


def fill_finished(config: Config, folder: RunFolder) -> bool:
    """Give the whole of a finished run to the tracker that the config names; return False if it has it already.

    Raises:
        UserError: its package is not installed.
    """
    rows, result = folder.metrics(), folder.result()
    last_step = rows[-1]["step"] if rows else 0
    if _received(config, folder, last_step) >= last_step:
        return False
    check_tracker(config)
    tracker, failed = _open_and_fill(config, folder), True
    try:
        tracker.finish(result["metrics"], folder.samples())
        _record(config, folder)
        failed = False
    finally:
        tracker.close(failed)
    return True


def record_incomplete(config: Config, folder: RunFolder) -> None:
    """Write into loggers.json that the tracker of the config lacks rows: the run's command, repeated, logs them."""
    place = _place(config, _settings(config))
    entries = [
        {**entry, "until": 0} if _place(config, entry["settings"]) == place else entry
        for entry in folder.read_record("loggers").get("loggers", [])
    ]
    folder.write_record("loggers", loggers=entries)


def _open_and_fill(config: Config, folder: RunFolder) -> Tracker:
    rows = folder.metrics()
    tracker = open_tracker(config, folder)
    if rows:
        received = tracker.received
        if received is None:
            received = _received(config, folder, rows[-1]["step"])
        for row in rows:
            if row["step"] > received:
                tracker.log(row)
    return tracker


def _received(config: Config, folder: RunFolder, last_step: int) -> int:
    """Return the last step whose row the tracker of the config has received."""
    place = _place(config, _settings(config))
    for entry in folder.read_record("loggers").get("loggers", []):
        if _place(config, entry["settings"]) == place:
            return last_step if entry["until"] is None else entry["until"]
    return 0


def _record(config: Config, folder: RunFolder) -> None:
    """Write into loggers.json that the tracker of the config is complete, and up to which step the others are."""
    rows, settings = folder.metrics(), _settings(config)
    last_step = rows[-1]["step"] if rows else 0
    others = [
        {**entry, "until": last_step if entry["until"] is None else entry["until"]}
        for entry in folder.read_record("loggers").get("loggers", [])
        if _place(config, entry["settings"]) != _place(config, settings)
    ]
    folder.write_record("loggers", loggers=[*others, {"settings": settings, "until": None}])


def _settings(config: Config) -> dict[str, Any]:
    """Return the settings of the logger, as they come back from JSON."""
    return json.loads(json.dumps(asdict(config.logger), default=str))


def _place(config: Config, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that name where the logger of the config writes; others change nothing about its curve."""
    names = config.logger.place
    return settings if names is None else {name: settings.get(name) for name in names}
