"""Processor milliseconds that one answer takes the server, without the network: so many requests at the same moment.

    python tests/speed/request_cost.py --artifacts artifacts --data data/world

The application is called in this process, on a copy of the run; what its threads take is told apart. Processor time
says more than the clock on a machine that does something else as well, though its caches are then shared too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import uvloop

from recsys_cli.config import merge, validate
from recsys_cli.serving.app import application
from recsys_cli.serving.site import Site
from recsys_cli.settings import Settings

USERS = 300
HEADERS = [(b"host", b"127.0.0.1:8080")]


class Caller:
    """Calls the application as a server of HTTP does."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, path: str, body: bytes = b"", query: bytes = b"") -> bytes:
        scope = {
            "type": "http", "method": "POST" if body else "GET", "raw_path": path.encode(), "path": path,
            "query_string": query, "headers": HEADERS, "client": ("127.0.0.1", 1234), "root_path": "",
        }
        out = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            out.append(message)

        await self._app(scope, receive, send)
        assert out[0]["status"] == 200, out
        return out[1]["body"]


async def act(call: Caller, answer: bytes) -> None:
    """An impression of the top item of an answer."""
    slate = json.loads(answer)
    event = {"type": "impression", "user_id": slate["user_id"], "item_id": slate["items"][0]["item_id"],
             "request_id": slate["request_id"], "position": 0}
    await call("/v1/events", json.dumps(event).encode())


async def measure(call: Caller, users: list[str], requests: int, together: int, events: float) -> None:
    rng = np.random.default_rng(0)
    whole, mine = time.process_time(), time.thread_time()
    for _ in range(requests // together):
        asked = [users[u] for u in rng.choice(len(users), together)]
        answers = await asyncio.gather(*(call(f"/v1/recommend/{user}", query=b"n=10") for user in asked))
        await asyncio.gather(*(act(call, answer) for answer in answers if rng.random() < events))
        await asyncio.sleep(0)
    await asyncio.sleep(0.3)  # what was served is written
    whole, mine = (1e3 * (now - then) / requests for now, then in (
        (time.process_time(), whole), (time.thread_time(), mine)))
    print(f"{together} at once, {events:g} events a request: {whole:.3f} ms, of it {mine:.3f} ms of the event loop")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--data", default="data/world")
    parser.add_argument("--requests", type=int, default=3000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for name in ("runs", "current"):
            origin = Path(args.artifacts) / name
            (shutil.copytree if origin.is_dir() else shutil.copy)(origin, Path(place) / name)
        changes = {"paths": {"artifacts": place, "data": args.data}, "serving": {
            "warm_up": USERS, "warm_up_seconds": 600, "refresh_seconds": None, "user_events_per_day": None}}
        site = Site(validate(Settings, merge(Settings().model_dump(mode="json"), changes)))
        site.open_log()
        app = application(site)
        await site.begin()
        while not site.ready:
            await asyncio.sleep(0.05)
        engine = site.service.live.engine
        users = [str(u) for u in engine.bundle.user_ids.external(site.service.live.lately_active(USERS))]
        for together, events in ((1, 0.0), (1, 0.0), (4, 0.0), (16, 0.0), (1, 0.5), (4, 0.5)):
            await measure(Caller(app), users, args.requests, together, events)
        await site.end()


if __name__ == "__main__":
    uvloop.run(main())
