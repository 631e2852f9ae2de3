"""A session of Weights & Biases, which cannot stop the program.

It needs no account, key, prompt or network. Where W&B's server is missing, refuses or does not answer in time, the
session is offline: its files stay in the run folder, with the command that uploads them.
"""

import glob
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptexp.config.schema import Config, WandbConfig
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.wandb_access import choose_mode, has_key_in_changes, short_reason
from gptexp.stages import stage

# A session waits so long for the server at its start, and for uploads at its end, of artifacts longer. The environment
# variables WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT replace them.
INIT_SECONDS, FINISH_SECONDS, ARTIFACT_SECONDS = 30.0, 60.0, 600.0
MAX_NAME_CHARACTERS = 128


class WandbSession:
    """One process of a run of W&B; a later session with the same id continues the run.

    Attributes:
        run: None if W&B has not started.
        mode: "offline", "disabled" (by WANDB_MODE), or one with a server.
        gave_up: whether W&B has failed; the session then logs nothing more.
    """

    def __init__(
        self,
        options: WandbConfig,
        folder: Path,
        name: str,
        kept_in: Path,
        has_artifacts: bool = False,
        **arguments: Any,
    ) -> None:
        """Start a session online, or else offline.

        Args:
            folder: holds the files of the session in wandb/.
            name: of the run, and its id unless `arguments` has one.
            kept_in: where the metrics are, too; a message names it when W&B fails.
            has_artifacts: whether the session uploads models or data, which takes longer.
            arguments: of wandb.init.
        """
        # W&B's own telemetry goes to the same server: one that hangs would delay the end of the process.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        if not Path(os.environ.get("TMPDIR") or "/").is_dir():  # W&B would try to create it
            os.environ["TMPDIR"] = tempfile.gettempdir()
        self.folder, self.kept_in = folder, kept_in
        self.finish_seconds = ARTIFACT_SECONDS if has_artifacts else FINISH_SECONDS
        self.run: Any = None
        self.gave_up = False
        self.arguments = {
            "project": options.project,
            "entity": options.entity,
            "group": options.group,
            "name": name[:MAX_NAME_CHARACTERS],
            **arguments,
            "id": _as_run_id(arguments.get("id") or name),
        }
        mode, reason = choose_mode(options.mode)
        if mode != "offline":
            try:
                with stage("waiting for W&B"):
                    self.run = self._init(mode)
            except Exception as error:
                import wandb

                wandb.teardown()  # it keeps the id of a run that did not start
                mode, reason = "offline", short_reason(error)
        self.mode = mode
        if mode == "offline":
            self._start_offline(reason)

    def attempt(self, action: Callable[[Any], None]) -> None:
        """Call an action with the run of W&B; if it fails, report that once and log nothing more."""
        if self.gave_up:
            return
        try:
            action(self.run)
        except Exception as error:
            self._give_up(error)

    def close(self, failed: bool) -> bool:
        """Wait until the server has taken everything, but not for long; return whether it has."""
        if self.run is None:
            return False
        try:
            with stage("waiting for W&B to take all data"):
                self.run.finish(exit_code=int(failed))
        except Exception as error:
            print(
                f"W&B: the server has not taken everything ({short_reason(error)}); "
                f"to upload the rest, repeat the command; to wait longer, set WANDB_FINISH_TIMEOUT=SECONDS",
                file=sys.stderr,
            )
            return False
        return not self.gave_up

    def has_earlier_files(self) -> bool:
        """Return whether the folder has files of an earlier session of this run."""
        return bool(self._earlier_files("*run"))

    def mark_earlier_files_as_uploaded(self) -> None:
        """Let `wandb sync` skip offline files whose rows this session logs again."""
        for folder in self._earlier_files("offline-run"):
            for file in folder.glob("*.wandb"):
                file.with_name(f"{file.name}.synced").touch()

    def _earlier_files(self, kind: str) -> list[Path]:
        present = Path(self.run.settings.sync_dir).resolve()
        folders = (self.folder / "wandb").glob(f"{kind}-*_*-{glob.escape(self.arguments['id'])}")
        return [folder for folder in folders if folder.resolve() != present]

    def _start_offline(self, reason: str) -> None:
        try:
            self.run = self._init("offline")
            print(
                f"W&B: offline ({reason}); to upload later: {self._sync_command()}", file=sys.stderr
            )
        except Exception as error:
            self._give_up(error)

    def _init(self, mode: Any) -> Any:
        import wandb

        timeouts = {"init_timeout": INIT_SECONDS, "finish_timeout": self.finish_seconds}
        return wandb.init(
            **self.arguments,
            resume="allow",
            dir=self.folder,
            mode=mode,
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=has_key_in_changes(),
                finish_timeout_raises=True,
                **{
                    name: seconds
                    for name, seconds in timeouts.items()
                    if f"WANDB_{name.upper()}" not in os.environ
                },
            ),
        )

    def _sync_command(self) -> str:
        """Return the command that uploads the files of all offline sessions, in their order."""
        folder = Path(self.run.settings.sync_dir).parent
        return f"wandb sync {shlex.quote(str(folder))}/offline-run-*"

    def _give_up(self, error: Exception) -> None:
        self.gave_up = True
        print(
            f"W&B: {short_reason(error)}. The run goes on without it; its metrics are in {self.kept_in}",
            file=sys.stderr,
        )


def open_session(
    config: Config,
    folder: RunFolder,
    job_type: str = "train",
    suffix: str = "",
    has_artifacts: bool = False,
) -> WandbSession:
    """Open the run of W&B that belongs to a run folder, or continue it; with a suffix, another one beside it."""
    assert isinstance(config.logger, WandbConfig)
    archived = folder.archived_count()
    run_id = f"{folder.name}-{archived}" if archived else folder.name
    if os.environ.get("WANDB_SWEEP_ID"):  # the agent of a sweep knows its runs by ids of its own
        run_id = os.environ.get("WANDB_RUN_ID", run_id)
    ending = f"-{suffix}" if suffix else ""
    return WandbSession(
        config.logger,
        folder.path,
        (config.name or folder.name) + ending,
        folder.metrics_file,
        has_artifacts,
        id=run_id + ending,
        job_type=job_type,
        tags=list(config.tags),
        config=folder.config_values(),
    )


def _as_run_id(name: str) -> str:
    """Replace the characters that W&B forbids in the id of a run."""
    return re.sub(r"[:;,#?/'\\%\s]", "_", name)
