"""A server on this machine that speaks W&B's protocol: GraphQL, the file stream, files and artifacts.

It keeps what a client has sent, as W&B's own server does: rows of the history by their offset, the summary, the config.
"""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """Attributes:
    runs: by id: {"history": rows, "summary", "config", "exit", and what the client sent about the run}.
    artifacts: what the client sent about each, with {"files": {name: content}, "is_committed"}.
    files: content of all files of runs and artifacts, by the path of the upload.
    alerts, views: variables of the queries.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.alerts: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close a connection early."""

    def run(self, name: str) -> dict[str, Any]:
        return self.runs.setdefault(
            name, {"history": [], "summary": {}, "config": {}, "exit": None}
        )

    def rows(self, name: str, *keys: str) -> list[tuple[Any, ...]]:
        """Return the values of the rows of a run's history that have all keys."""
        rows = self.runs[name]["history"]
        return [tuple(row[key] for key in keys) for row in rows if all(key in row for key in keys)]


@contextmanager
def serve_wandb(port: int = 0) -> Iterator[WandbServer]:
    server = WandbServer(port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        message = json.loads(self._read() or b"{}")
        if self.path == "/graphql":
            query = message["query"]
            name = (
                message.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", query)[1]
            )
            answer = getattr(self, f"answer_{name}", lambda _: {})
            self._reply({"data": answer(message.get("variables") or {})})
        elif stream := re.fullmatch(r"/files/.*/([^/]+)/file_stream", self.path):
            self._keep_stream(self.server.run(stream[1]), message)
            self._reply({})
        else:
            self._reply({})

    def do_PUT(self) -> None:
        self.server.files[self.path] = self._read()
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def log_message(self, *_: Any) -> None:
        pass

    def _read(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, values: dict[str, Any]) -> None:
        body = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def _keep_stream(run: dict[str, Any], message: dict[str, Any]) -> None:
        for name, part in message.get("files", {}).items():
            lines = [json.loads(line) for line in part["content"]] if "json" in name else []
            if name == "wandb-history.jsonl":
                run["history"][part["offset"] : part["offset"] + len(lines)] = lines
            elif name == "wandb-summary.json":
                run["summary"] = lines[-1]
        run["exit"] = message.get("exitcode", run["exit"])

    # Answers to the queries of the client, by the names of their operations.

    def answer_Viewer(self, _: Any) -> Any:  # noqa: N802
        viewer = {"id": "v", "entity": "me", "username": "me", "email": "", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    answer_GetDefaultEntity = answer_Viewer  # noqa: N815

    def answer_RunResumeStatus(self, values: Any) -> Any:  # noqa: N802
        bucket = None
        if run := self.server.runs.get(values["name"]):
            bucket = {
                "id": "b",
                "name": values["name"],
                "summaryMetrics": json.dumps(run["summary"]),
                "displayName": run.get("displayName"),
                "logLineCount": 0,
                "historyLineCount": len(run["history"]),
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in run["history"][-1:]]),
                "eventsTail": "[]",
                "config": json.dumps(run["config"]),
                "tags": [],
                "notes": None,
                "wandbConfig": json.dumps({"t": 1}),
            }
        entity = {"id": "e", "name": "me"}
        return {"model": {"id": "m", "name": values["project"], "entity": entity, "bucket": bucket}}

    def answer_UpsertBucket(self, values: Any) -> Any:  # noqa: N802
        is_new = values["name"] not in self.server.runs
        run = self.server.run(values["name"])
        run.update({key: value for key, value in values.items() if value is not None})
        if values.get("config"):
            run["config"] = json.loads(values["config"])
        bucket = {
            "id": "b",
            "name": values["name"],
            "displayName": run.get("displayName"),
            "description": None,
            "config": json.dumps(run["config"]),
            "sweepName": None,
            "project": {"id": "p", "name": run["project"], "entity": {"id": "e", "name": "me"}},
            "historyLineCount": len(run["history"]),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def answer_NotifyScriptableRunAlert(self, values: Any) -> Any:  # noqa: N802
        self.server.alerts.append(values)
        return {"notifyScriptableRunAlert": {"success": True}}

    def answer_UpsertView2(self, values: Any) -> Any:  # noqa: N802
        self.server.views.append(values)
        return {"upsertView": {"view": {"id": "v", "name": values["name"]}, "inserted": True}}

    def answer_OrganizationCoreWeaveOrganizationID(self, _: Any) -> Any:  # noqa: N802
        return {"entity": {"organization": None}}

    def answer_CreateRunFiles(self, values: Any) -> Any:  # noqa: N802
        files = [
            {"name": name, "uploadUrl": f"{self.server.url}/runs/{values['run']}/{name}"}
            for name in values["files"]
        ]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}

    def answer_ServerFeaturesQuery(self, _: Any) -> Any:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def answer_ArtifactType(self, _: Any) -> Any:  # noqa: N802
        return {"project": {"artifact": None}}

    def answer_CreateArtifact(self, values: Any) -> Any:  # noqa: N802
        number = len(self.server.artifacts)
        self.server.artifacts.append({**values["input"], "is_committed": False})
        sequence = {"latestArtifact": None}
        artifact = {"id": str(number), "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def answer_CreateArtifactManifest(self, values: Any) -> Any:  # noqa: N802
        url = f"{self.server.url}/artifacts/{values['artifactID']}/{values['name']}"
        file = {"id": "f", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def answer_UpdateArtifactManifest(self, _: Any) -> Any:  # noqa: N802
        file = {"id": "f", "uploadUrl": f"{self.server.url}/manifest", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def answer_CreateArtifactFiles(self, values: Any) -> Any:  # noqa: N802
        nodes = [
            {
                "id": "f",
                "name": file["name"],
                "displayName": file["name"],
                "storagePath": file["name"],
                "uploadUrl": f"{self.server.url}/artifacts/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in values["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def answer_CommitArtifact(self, values: Any) -> Any:  # noqa: N802
        self.server.artifacts[int(values["artifactID"])]["is_committed"] = True
        return {"commitArtifact": {"artifact": {"id": values["artifactID"], "digest": "d"}}}
