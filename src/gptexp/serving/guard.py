"""Refuse requests that a web page of somebody else sends to a server on this machine.

A page may point a name of its own at 127.0.0.1 (DNS rebinding): its requests then carry that name as their Host. Other
cross-site requests carry the Origin of their page.
"""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptexp.network import is_loopback
from gptexp.serving.request_error import RequestError

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"frame-ancestors 'none'"),  # the page has the rest of its policy
]


class Guard:
    """Check Host and Origin of each request before anything reads it.

    Args:
        hosts: names that requests may use for this machine besides its addresses.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]
        }
        host, origin = headers.get("host", ""), headers.get("origin")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SECURITY_HEADERS]
            await send(message)

        if error := self._explain(host, origin):
            response = JSONResponse(error.body(), error.status)
            await response(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _explain(self, host: str, origin: str | None) -> RequestError | None:
        name = _split(f"//{host}").hostname or ""
        if not (name.lower() in self.hosts or is_address(name)):
            return RequestError(
                f"Host {host!r:.80}: is not a name of this server; start it with --allow-host {name[:80]}",
                status=403,
                code="host_not_allowed",
            )
        if origin is not None and _split(origin).netloc != host:
            return RequestError(
                f"Origin {origin!r:.80}: pages of other sites may not use this server",
                status=403,
                code="origin_not_allowed",
            )
        return None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # half of a bracket
        return urlsplit("")


def is_address(name: str) -> bool:
    """Return whether a host is given by its IP address: no name can be rebound to another one then."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def names_of_this_machine(host: str) -> set[str]:
    """Return the names under which a server that listens on `host` may be addressed."""
    names = {"localhost", host}
    if not is_loopback(host):
        name = socket.gethostname()
        names |= {name, f"{name}.local"}
    return names
