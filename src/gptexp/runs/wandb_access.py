"""Whether and how Weights & Biases can be reached: mode, server and key."""

import configparser
import netrc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

from gptexp.config.schema import Config, WandbConfig
from gptexp.errors import UserError
from gptexp.network import is_reachable
from gptexp.wording import first_line

SERVER = "https://api.wandb.ai"
SECRET_WORDS = (
    "KEY",
    "TOKEN",
    "PASSWORD",
)  # variables with such names are shown without their values


def check_wandb(config: Config) -> None:
    """Check what W&B would refuse, before anything slow begins.

    Raises:
        UserError: wandb is not installed, an environment variable of W&B has a wrong value, there is no key where the
            mode needs one, or the key stands in the command or the config.
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
            reason = error.errors()[0]["msg"] if hasattr(error, "errors") else short_reason(error)
            if any(word in name for word in SECRET_WORDS):
                start, reason = name, reason.replace(value, "***")
            else:
                start = f"{name}={value}"
            raise UserError(
                f"{start}: {reason}. Set it to another value, or type: unset {name}"
            ) from None
    options = config.logger
    assert isinstance(options, WandbConfig)
    mode = os.environ.get("WANDB_MODE") or options.mode
    key = find_key()
    if mode in ("online", "run", "shared") and not key:
        name = "WANDB_MODE" if os.environ.get("WANDB_MODE") else "logger.mode"
        raise UserError(
            f"{name}={mode}: there is no API key. Type: wandb login, set WANDB_API_KEY, or choose logger.mode=auto"
        )
    for place, text in (("command", " ".join(sys.argv)), ("config", repr(config))):
        if key and key in text:
            raise UserError(
                f"the API key of W&B stands in the {place}, which the run folder keeps. "
                f"Type: export WANDB_API_KEY=..., and leave the key out of the {place}"
            )


def choose_mode(setting: str) -> tuple[str, str]:
    """Return the mode for wandb.init, and why it is offline."""
    if os.environ.get("WANDB_MODE"):
        mode = os.environ["WANDB_MODE"]
        return ("offline" if mode == "dryrun" else mode), f"WANDB_MODE={mode}"
    if setting != "auto":
        return setting, f"logger.mode={setting}"
    if not find_key():
        return "offline", "no API key"
    return ("online", "") if is_server_reachable() else ("offline", "no network")


def is_server_reachable() -> bool:
    return is_reachable(_server())


def find_key() -> str | None:
    """Return the API key of WANDB_API_KEY, or the one that `wandb login` has stored in the user's netrc file."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    host = urlsplit(_server()).hostname or ""
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, RuntimeError, netrc.NetrcParseError):  # RuntimeError: no home folder
        return None
    return entry[2] if entry else None


def hide_key(text: str) -> str:
    """Return a text with stars for the API key."""
    key = find_key()
    return text.replace(key, "***") if key else text


def has_key_in_changes() -> bool:
    """Return whether the uncommitted changes of the current folder, which W&B uploads, contain the API key."""
    key = find_key()
    command = ["git", "diff", "HEAD"]
    try:
        process = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True  # then W&B is not to read them either
    return key is not None and key.encode() in process.stdout


def short_reason(error: Exception) -> str:
    return textwrap.shorten(first_line(error).rstrip("."), 200, placeholder=" ...")


def _server() -> str:
    """Return the address of the server: of WANDB_BASE_URL, else the one that `wandb login --host=URL` has stored."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url
    parser = configparser.ConfigParser()
    try:  # without importing wandb, which takes a second; later files win
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
        parser.read([folder / "settings", Path(os.environ.get("WANDB_DIR", "")) / "wandb/settings"])
        return parser.get("default", "base_url", fallback=SERVER)
    except (OSError, RuntimeError, ValueError, configparser.Error):  # RuntimeError: no home folder
        return SERVER
