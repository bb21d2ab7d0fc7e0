"""A server on loopback that speaks OpenAI's form of chat, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint(ThreadingHTTPServer):
    """reply: question (the user's message as JSON) → the answer's text, an HTTP status, or bytes of a whole body."""

    daemon_threads = True

    def __init__(self, reply: Callable[[dict], str | int | bytes | float]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = json.loads(body["messages"][1]["content"])
        about = {"path": self.path, "model": body["model"], "task": body["messages"][0]["content"]}
        server.asked.append(about | question)
        server.headers.append(dict(self.headers))
        reply = server.reply(question)
        if isinstance(reply, float):  # dribbles for so many seconds, each of them in time
            self._dribble(reply)
            return
        if isinstance(reply, int):
            self.send_response(reply)
            self.send_header("Location", f"{server.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = reply if isinstance(reply, bytes) else _in_form(reply)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _dribble(self, seconds: float) -> None:
        self.send_response(200)
        self.end_headers()
        until = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while time.monotonic() < until:
                self.wfile.write(b" ")
                time.sleep(0.05)
            self.wfile.write(_in_form('["sports"]'))

    def log_message(self, *args: object) -> None:
        pass


def _in_form(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@contextlib.contextmanager
def endpoint(reply: Callable[[dict], str | int | bytes | float]) -> Iterator[Endpoint]:
    server = Endpoint(reply)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
