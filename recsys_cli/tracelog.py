"""Diagnostics as JSON lines under `artifacts/logs/`; the console is for results."""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from pathlib import Path


class TraceLog:
    """Appends one JSON object an event to `trace-YYYYMMDD.jsonl`; with no folder it records nothing.

    Each event carries `ts` (UTC, ISO 8601), `event`, `process` and whatever fields the caller gives
    (request id, user, stage, counts, milliseconds). A whole line goes out in one write to a file opened
    for appending, so that several processes may share it.
    """

    def __init__(self, folder: str | os.PathLike | None):
        self._folder = None if folder is None else Path(folder)
        self._handle = None
        self._day = ""
        self.process = uuid.uuid4().hex[:12]

    @property
    def recording(self) -> bool:
        """Whether events are kept: what is costly to gather may be left out otherwise."""
        return self._folder is not None

    def event(self, name: str, **fields) -> None:
        """Record one event. A log that cannot be written never stops the work that it describes."""
        if self._folder is None:
            return
        import orjson

        now = dt.datetime.now(dt.UTC)
        line = orjson.dumps(
            {"ts": now.isoformat(), "event": name, "process": self.process, **fields},
            option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS,
            default=str,
        )
        try:
            self._file(now.strftime("%Y%m%d")).write(line)
        except OSError:
            self._folder = None

    def timed(self, name: str, **fields) -> _Timed:
        """Context manager that records the event with its milliseconds when the block ends."""
        return _Timed(self, name, fields)

    def _file(self, day: str):
        if self._handle is None or day != self._day:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._handle = open(self._folder / f"trace-{day}.jsonl", "ab", buffering=0)  # noqa: SIM115
            self._day = day
        return self._handle

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class _Timed:
    def __init__(self, log: TraceLog, name: str, fields: dict):
        self.fields = fields
        self._log, self._name = log, name

    def __enter__(self) -> _Timed:
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.fields["ms"] = round((time.perf_counter() - self._start) * 1e3, 3)
        if error is not None:
            self.fields["error"] = f"{kind.__name__}: {error}"
        self._log.event(self._name, **self.fields)


SILENT = TraceLog(None)
