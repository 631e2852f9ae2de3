"""Whether a server answers, asked once and quickly: libraries retry for minutes where it does not."""

import os
import socket
from functools import cache
from urllib.parse import urlsplit

from gptexp.errors import UserError

PORTS = {"http": 80, "https": 443}


@cache
def hub_is_reachable(seconds: float = 3.0) -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    from huggingface_hub import constants

    return is_reachable(constants.ENDPOINT, seconds)


def is_reachable(url: str, seconds: float) -> bool:
    address = urlsplit(url)
    if any(
        os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        return True  # a proxy resolves names for us: let the library try
    port = address.port or PORTS.get(address.scheme)
    if port is None:
        raise UserError(f"{url}: is no address of a server; it begins with https:// or http://")
    try:
        with socket.create_connection((address.hostname or "", port), timeout=seconds):
            return True
    except OSError:
        return False
