"""The log of decisions on runs, and the lock that keeps retrainings apart.

    artifacts/retrain/
      decisions.jsonl   one JSON object a decision; appended, never changed
      lock              held by whoever retrains
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from recsys_cli.errors import RecsysError
from recsys_cli.files import held_by

FOLDER = "retrain"


class Decisions:
    """The decision log below an artifacts folder."""

    def __init__(self, artifacts: str | os.PathLike):
        self.folder = Path(artifacts) / FOLDER
        self.path = self.folder / "decisions.jsonl"

    def append(self, outcome: str, **fields: Any) -> dict[str, Any]:
        """Write one decision; it is on the disk when this returns. A line goes out in one write."""
        row = {"ts": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "outcome": outcome, **fields}
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY, default=str)
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as handle:
            if handle.tell() and not self._ends_well():
                line = b"\n" + line
            handle.write(line)
            os.fsync(handle.fileno())
        return row

    def _ends_well(self) -> bool:
        with open(self.path, "rb") as handle:
            handle.seek(-1, os.SEEK_END)
            return handle.read(1) == b"\n"

    def read(self) -> list[dict[str, Any]]:
        """Every decision, oldest first; lines that a full disk cut short are passed over."""
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        rows = []
        for line in lines:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(row, dict) and "outcome" in row:
                rows.append(row)
        return rows


@contextmanager
def alone(artifacts: str | os.PathLike, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of retraining, which ends with the process whatever becomes of it.

    wait: for whoever holds it, instead of raising RecsysError.
    """
    path = Path(artifacts) / FOLDER / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            handle.seek(0)
            holder = handle.read().strip()
            told = f" (process {holder})" if holder.isdigit() else ""
            raise RecsysError(
                f"another retraining of {artifacts} is running{told}", "wait for it with --wait, or try again later"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def holder(artifacts: str | os.PathLike) -> str | None:
    """Id of the process that retrains ("" where it has not said so yet), None where none does."""
    return held_by(Path(artifacts) / FOLDER / "lock")


@contextmanager
def ends_after(seconds: float | None, grace: float = 60.0) -> Iterator[None]:
    """Ends this process where the block takes longer: by SIGTERM, so that it tidies up, and by SIGKILL where it has
    not ended `grace` seconds later, as a call that hangs would not. None lets it take as long as it wants."""
    if seconds is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        if not done.wait(seconds):
            os.kill(os.getpid(), signal.SIGTERM)
            if not done.wait(grace):
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
