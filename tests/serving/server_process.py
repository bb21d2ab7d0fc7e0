"""A server as a process of its own, and how tests talk to it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = """
paths: {data: data, artifacts: artifacts}
retrieval:
  item_neighbours: {kind: item_neighbours}
  in_network: {kind: in_network}
  trending: {kind: trending}
  popularity: {kind: popularity}
pipeline:
  sourcing:
    candidates: 100
    shares: {item_neighbours: 0.5, in_network: 0.3, trending: 0.1, popularity: 0.1}
ranking: {choose: heavy, heavy: {kind: lightgbm}}
tuning: {budget_seconds: 0.5}
serving: {pool: {wait_ms: 5000}, warm_up: 4, warm_up_seconds: 60}
"""


@dataclass
class Reply:
    """An answer: status, headers, and the body as JSON where it is."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Server:
    """A running server. folder: where its settings, data and artifacts lie."""

    folder: Path
    process: subprocess.Popen
    url: str
    errors: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, *options: str, env: dict[str, str] | None = None, wait: float = 240) -> Server:
        process = subprocess.Popen(
            [sys.executable, "-m", "recsys_cli", "serve", "-c", "recsys.yaml", "--port", "0", *options],
            cwd=folder, env={**os.environ, **(env or {})}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        server = cls(folder, process, "")
        timer = threading.Timer(wait, process.kill)
        timer.start()
        while True:
            line = process.stderr.readline()
            server.errors.append(line)
            if found := re.search(r"listening on (http://\S+),", line):
                server.url = found[1]
            if line.startswith("ready") or not line:
                break
        timer.cancel()
        if not line.startswith("ready"):
            process.kill()
            raise AssertionError("".join(server.errors) + process.stderr.read())
        return server

    def ask(self, method: str, path: str, body=None, headers: dict[str, str] | None = None, timeout=60) -> Reply:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return Reply(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, dict(error.headers), error.read())

    def get(self, path: str, **options) -> Reply:
        return self.ask("GET", path, **options)

    def post(self, path: str, body=None, **options) -> Reply:
        return self.ask("POST", path, body, **options)

    def items(self, path: str) -> list:
        reply = self.get(path)
        assert reply.status == 200, reply.body
        return [item["item_id"] for item in reply.json["items"]]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self.process.stderr.close()

    def stop(self) -> int:
        """End it in order; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.errors.append(self.process.stderr.read())
        self.process.stderr.close()
        return code


def second_run(folder: Path) -> str:
    """The run in use once more under another name, which is not the one in use."""
    from recsys_cli.artifacts.runs import RunStore

    store = RunStore(folder / "artifacts")
    first = store.current()
    other = f"{first}-b"
    shutil.copytree(store.folder / "runs" / first, store.folder / "runs" / other)
    manifest = store.folder / "runs" / other / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"id": other}))
    return other


def copy_of(folder: Path, target: Path) -> Path:
    """A folder of settings, data and artifacts of one's own, without the log of events."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("events", "work"))
    return target
