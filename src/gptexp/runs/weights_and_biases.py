"""The tracker for Weights & Biases, which cannot stop a run.

It needs no account, key, prompt or network. Where W&B's server is missing, refuses or does not answer in time, the run
goes on offline: the files of its curve stay in the run folder, with the command that uploads them.
"""

import netrc
import os
import re
import shlex
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gptexp.config.schema import Config, WandbConfig
from gptexp.errors import UserError
from gptexp.network import is_reachable
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tables import SAMPLE_FIELDS
from gptexp.runs.trackers import Tracker
from gptexp.stages import stage
from gptexp.wording import first_line

SERVER = "https://api.wandb.ai"
# A run waits so long for the server at its start, and for uploads at its end. The environment variables
# WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT replace both.
INIT_SECONDS, FINISH_SECONDS = 30.0, 60.0
MAX_NAME_CHARACTERS = 128


class Wandb(Tracker):
    def __init__(self, config: Config, folder: RunFolder) -> None:
        # W&B's own telemetry goes to the same server: one that hangs would delay the end of the process.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        if not Path(os.environ.get("TMPDIR") or "/").is_dir():  # W&B would try to create it
            os.environ["TMPDIR"] = tempfile.gettempdir()
        self.config, self.folder = config, folder
        self.run: Any = None  # None: W&B has not started
        self.gave_up = False
        assert isinstance(config.logger, WandbConfig)
        self.options = config.logger
        mode, reason = _choose_mode(self.options.mode)
        if mode != "offline":
            try:
                with stage("waiting for W&B"):
                    self.run = self._init(mode)
            except Exception as error:
                import wandb

                wandb.teardown()  # it keeps the id of a run that did not start
                mode, reason = "offline", _short_reason(error)
        if mode == "offline":
            try:
                self._start_offline(reason)
            except Exception as error:
                self._give_up(error)

    def _init(self, mode: Any) -> Any:
        import wandb

        archived = self.folder.archived_count()
        timeouts = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS}
        run = wandb.init(
            project=self.options.project,
            entity=self.options.entity,
            group=self.options.group,
            id=_as_run_id(f"{self.folder.name}-{archived}" if archived else self.folder.name),
            resume="allow",
            name=(self.config.name or self.folder.name)[:MAX_NAME_CHARACTERS],
            tags=list(self.config.tags),
            config=self.folder.config_values(),
            dir=self.folder.path,
            mode=mode,
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",
                finish_timeout_raises=True,
                **{
                    name: seconds
                    for name, seconds in timeouts.items()
                    if f"WANDB_{name.upper()}" not in os.environ
                },
            ),
        )
        # With `step` as the axis, a resumed curve continues at its checkpoint.
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    def _start_offline(self, reason: str) -> None:
        """Start an offline run that holds the curve from its first step, so that one folder is all to upload."""
        self.run = self._init("offline")
        self.has_all_rows = True
        for row in self.folder.metrics():
            self.run.log(row)
        print(f"W&B: offline ({reason}); to upload later: {self._sync_command()}", file=sys.stderr)

    def _sync_command(self) -> str:
        return f"wandb sync {shlex.quote(str(self.run.settings.sync_dir))}"

    def _give_up(self, error: Exception) -> None:
        """Log nothing more to W&B, and report that once."""
        self.gave_up = True
        print(
            f"W&B: {_short_reason(error)}. The run goes on without it; its metrics are in {self.folder.metrics_file}",
            file=sys.stderr,
        )

    def log(self, row: dict[str, Any]) -> None:
        if not self.gave_up:
            try:
                self.run.log(row)
            except Exception as error:
                self._give_up(error)

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        if not self.gave_up:
            try:
                with stage("waiting for W&B"):
                    self._log_result(metrics, samples)
            except Exception as error:
                self._give_up(error)

    def _log_result(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        import wandb

        result, data = self.folder.result(), self.folder.read_record("data")
        figures = {name: result.get(name) for name in ("parameters", "tokens", "tokens_per_second")}
        self.run.summary.update({**metrics, **figures, "fingerprint": data.get("fingerprint")})
        media_classes = {".png": wandb.Image, ".gif": wandb.Video, ".wav": wandb.Audio}

        def to_wandb(value: str) -> Any:
            file = self.folder.path / value
            if not value.startswith("samples/") or file.suffix not in media_classes:
                return value
            return media_classes[file.suffix](str(file)) if file.is_file() else value

        columns = list(samples[0]) if samples else list(SAMPLE_FIELDS)
        rows = [[to_wandb(sample[name]) for name in columns] for sample in samples]
        self.run.log({"samples": wandb.Table(columns=columns, data=rows)})

    def close(self, failed: bool) -> None:
        if self.run is None:
            return
        try:
            with stage("waiting for W&B to take all data"):
                self.run.finish(exit_code=int(failed))
        except Exception as error:
            print(
                f"W&B: the server has not taken everything ({_short_reason(error)}); "
                f"to upload the rest: {self._sync_command()}",
                file=sys.stderr,
            )


def check_wandb(config: Config) -> None:
    """Check what W&B would refuse, before anything slow begins.

    Raises:
        UserError: wandb is not installed, an environment variable of W&B has a wrong value, or there is no key where
            the mode needs one.
    """
    try:
        import wandb
    except ModuleNotFoundError:
        raise UserError(
            "logger=wandb: wandb is not installed. Type: pip install wandb, or choose logger=csv or logger=none"
        ) from None

    for name, value in os.environ.items():
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except Exception as error:
            reason = error.errors()[0]["msg"] if hasattr(error, "errors") else _short_reason(error)
            raise UserError(
                f"{name}={value}: {reason}. Set it to another value, or type: unset {name}"
            ) from None
    options = config.logger
    assert isinstance(options, WandbConfig)
    mode = os.environ.get("WANDB_MODE") or options.mode
    if mode in ("online", "run", "shared") and not _has_key():
        name = "WANDB_MODE" if os.environ.get("WANDB_MODE") else "logger.mode"
        raise UserError(
            f"{name}={mode}: there is no API key. Type: wandb login, set WANDB_API_KEY, or choose logger.mode=auto"
        )


def _choose_mode(setting: str) -> tuple[str, str]:
    """Return the mode for wandb.init, and why it is offline."""
    if os.environ.get("WANDB_MODE"):
        mode = os.environ["WANDB_MODE"]
        return ("offline" if mode == "dryrun" else mode), f"WANDB_MODE={mode}"
    if setting != "auto":
        return setting, f"logger.mode={setting}"
    if not _has_key():
        return "offline", "no API key"
    return ("online", "") if is_reachable(_server()) else ("offline", "no network")


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL") or SERVER


def _has_key() -> bool:
    """Return whether WANDB_API_KEY is set or `wandb login` has stored a key in the user's netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(_server()).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):  # RuntimeError: no home folder
        return False


def _as_run_id(name: str) -> str:
    """Replace the characters that W&B forbids in the id of a run."""
    return re.sub(r"[:;,#?/'\\%\s]", "_", name)


def _short_reason(error: Exception) -> str:
    return textwrap.shorten(first_line(error).rstrip("."), 200, placeholder=" ...")
