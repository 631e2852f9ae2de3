"""A web server of files that answers ranges, and fails as a test wants."""

import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class RangeServer:
    """Serves the files of a folder inside a `with` block.

    Attributes:
        requests: (path, from, to) of each answer to GET; a whole file has (path, 0, its size).
        answer: is called with each path; it may return the status of a failure, 0 to close the connection, or bytes
            that are sent instead of the file or its range.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, int, int]] = []
        self.answer: Callable[[str], Any] = lambda _: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                file = outer.folder / self.path.lstrip("/")
                other = outer.answer(self.path)
                if other == 0:
                    self.close_connection = True
                    return
                content = other if isinstance(other, bytes) else b""
                status = other if isinstance(other, int) else 200
                if other is None and not file.is_file():
                    status = 404
                elif other is None:
                    content = file.read_bytes()
                start, end = 0, len(content)
                ranges = self.headers.get("Range", "") if status == 200 and other is None else ""
                if match := re.fullmatch(r"bytes=(\d+)-(\d*)", ranges):
                    start = int(match[1])
                    end = min(end, int(match[2]) + 1) if match[2] else end
                    status = 206
                self.send_response(status)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(end - start))
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
                self.end_headers()
                if self.command == "GET":
                    outer.requests.append((self.path, start, end))
                    self.wfile.write(content[start:end])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "RangeServer":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
