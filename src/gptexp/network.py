"""Test quickly whether a server answers: without a network, the libraries retry for minutes."""

import ipaddress
import os
import socket
from functools import cache
from urllib.parse import urlsplit

from gptexp.errors import UserError

DEFAULT_PORTS = {"http": 80, "https": 443}
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
TIMEOUT_SECONDS = 3.0


@cache
def hub_is_reachable() -> bool:
    """Return whether the Hugging Face hub answers and HF_HUB_OFFLINE does not forbid it; tested once a process."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    from huggingface_hub import constants

    return is_reachable(constants.ENDPOINT)


def is_loopback(host: str) -> bool:
    """Return whether an address, or the name localhost, reaches this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_reachable(url: str) -> bool:
    """Return whether the server of a URL accepts a connection, or a proxy is configured.

    Raises:
        UserError: the URL names no server.
    """
    address = urlsplit(url)
    if any(os.environ.get(name) for name in PROXY_VARIABLES):
        return True  # the proxy resolves the name: let the library try
    port = address.port or DEFAULT_PORTS.get(address.scheme)
    if port is None:
        raise UserError(
            f"{url}: not the address of a server; it must begin with https:// or http://"
        )
    try:
        with socket.create_connection((address.hostname or "", port), timeout=TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
