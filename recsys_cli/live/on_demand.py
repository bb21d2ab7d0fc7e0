"""Retrainings that a server starts: by `POST /v1/retrain`, and at set times.

Each is a process of its own, `recsys retrain --events`, behind everything that serves. It keeps the lock of retraining,
so that one runs at a time whoever starts it; the server follows the pointer that it moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from recsys_cli.live.decisions import Decisions, holder
from recsys_cli.live.schedule import checked, following
from recsys_cli.serving.keys import Refused
from recsys_cli.serving.routes import Answer, Call
from recsys_cli.serving.routes import Path as Route

if TYPE_CHECKING:
    from recsys_cli.serving.site import Site
    from recsys_cli.settings import Settings

STEP_SECONDS = 20.0
"""How long a wait for a set time sleeps at once: a clock that was put forward or back is noticed then."""
END_SECONDS = 10.0
"""How long a training may take to end with the server, before it is killed."""
LOG = "last.log"
"""What the process of the last retraining wrote, beside the decisions."""


class Retraining(msgspec.Struct, omit_defaults=True):
    """How learning stands."""

    state: str
    """"running" or "idle" """
    process: str | None = None
    """id of the one that retrains"""
    next: str | None = None
    """moment of the next one that is set, ISO 8601"""
    last: dict[str, Any] = {}
    """the latest decision"""


class Retrainer:
    """Starts retrainings of one server."""

    def __init__(self, settings: Settings):
        """Raises ConfigError where the schedule is none."""
        self.settings, self.config = settings, settings.live.retraining
        self.artifacts = Path(settings.paths.artifacts)
        self.decisions = Decisions(self.artifacts)
        self.process: subprocess.Popen | None = None
        self.next: dt.datetime | None = None
        self.schedule = None if self.config.schedule is None else checked(self.config.schedule)

    def begin(self) -> None:
        """Start one. Raises Refused where one runs, or where the latest was too short a time ago."""
        running = holder(self.artifacts)
        if running is not None or (self.process is not None and self.process.poll() is None):
            raise Refused(409, "running", "a retraining is running already", "see GET /v1/retrain")
        past = self.decisions.read()
        if past:
            ago = (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(past[-1]["ts"])).total_seconds()
            left = 60 * self.config.pause_minutes - ago
            if ago >= 0 and left > 0:  # a clock that was put back holds nothing up
                raise Refused(429, "too_soon", f"the latest decision is {ago:.0f} s old",
                              "live.retraining.pause_minutes sets the pause", {"retry-after": str(int(left) + 1)})
        self.process = self._started()

    def _started(self) -> subprocess.Popen:
        from recsys_cli.files import write_bytes

        folder = self.decisions.folder
        folder.mkdir(parents=True, exist_ok=True)
        given = folder / "settings.json"
        write_bytes(given, self.settings.model_dump_json(indent=1).encode())
        command = [sys.executable, "-m", "recsys_cli", "retrain", "--config", str(given), "--events",
                   str(self.artifacts / "events"), "--minutes", f"{self.config.minutes:g}"]
        with open(folder / LOG, "wb") as out:
            process = subprocess.Popen(  # noqa: S603 - this very program
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )
        with contextlib.suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        return process

    def told(self) -> Retraining:
        """How it stands."""
        running = holder(self.artifacts)
        if running is None and self.process is not None and self.process.poll() is None:
            running = str(self.process.pid)
        past = self.decisions.read()
        last = {k: v for k, v in past[-1].items() if k != "gates"} if past else {}
        when = None if self.next is None else self.next.isoformat(timespec="seconds")
        return Retraining("idle" if running is None else "running", running or None, when, last)

    async def follow(self, site: Site) -> None:
        """Start at the set times, and tell what ends badly; runs until it is cancelled, and ends what runs then."""
        try:
            while True:
                await self._wait(site)
                try:
                    await asyncio.to_thread(self.begin)
                    site.trace.event("retrain", by="schedule")
                except (Refused, OSError) as refused:
                    site.trace.event("retrain_refused", error=str(refused))
        finally:
            self.close()

    async def _wait(self, site: Site) -> None:
        """Until the next set time; for ever where none is set."""
        seen = dt.datetime.now(dt.UTC)
        self.next = None if self.schedule is None else following(self.schedule, seen)
        while True:
            left = STEP_SECONDS if self.next is None else (self.next - dt.datetime.now(dt.UTC)).total_seconds()
            await asyncio.sleep(min(max(left, 0.05), STEP_SECONDS))
            self._look(site)
            now = dt.datetime.now(dt.UTC)
            if self.next is not None and now >= self.next:
                return
            if self.next is not None and now < seen:  # the clock was put back
                self.next = following(self.schedule, now)
            seen = now

    def _look(self, site: Site) -> None:
        if self.process is not None and self.process.poll() not in (None, 0):
            last = self.decisions.read()[-1:]
            if not last or last[0]["outcome"] not in ("refused", "rolled back"):
                site.metrics.alerts.labels("retrain").inc()
            site.trace.event("retrain_ended", code=self.process.returncode, log=str(self.decisions.folder / LOG))
            self.process = None

    def close(self) -> None:
        """End what was started here; the next one goes on from its checkpoints."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def paths(self) -> list[Route]:
        """The paths of the API about it."""

        async def start(call: Call) -> Answer:
            await asyncio.to_thread(self.begin)
            return Answer(await asyncio.to_thread(self.told), 202)

        async def state(call: Call) -> Retraining:
            return await asyncio.to_thread(self.told)

        return [
            Route("POST", "/v1/retrain", start, "admin", "Learn from the events of the log, behind gates", Retraining),
            Route("GET", "/v1/retrain", state, "read", "Whether it learns, and the latest decision", Retraining),
        ]
