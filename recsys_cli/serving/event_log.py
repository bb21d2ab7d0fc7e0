"""EventLog: the durable log that everything the server learns is read from.

Events are rows of a SQLite file in write-ahead mode, numbered by `offset` from 1 without gaps. `append` returns once
they are on the disk: whoever waits at the same moment shares one commit (group commit), so that the price of a flush
is paid once for all of them. One process writes a log, any number read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import msgspec

from recsys_cli.errors import DataError, RecsysError
from recsys_cli.serving.erasure import mark
from recsys_cli.serving.events import (
    LONGEST_BODY,
    Entry,
    Event,
    EventRules,
    LogInUse,
    Receipt,
    Rejected,
    check,
)
from recsys_cli.serving.log_file import DATABASE, as_ours, connect, require_layout

LOCK = "events.lock"
KEPT_REJECTS = 100_000
"""Refused events that are kept with their reasons, the latest ones."""
_LAST = "last"
"""Among the positions: the last offset when events were let go."""
_TAIL = 1_000
"""Latest events that are kept in memory."""
_MOST_AT_ONCE = 20_000
"""Events of one commit; what comes beyond waits for the next."""

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Event).decode

Row = tuple[str | None, str | None, int, bytes]


class _Ticket:
    """The events of one call, until they are on the disk."""

    __slots__ = ("done", "error", "events", "positions", "receipt", "refused", "rows", "tell")

    def __init__(
        self, rows: list[Row], events: list[Event], refused: list[tuple[int, str, bytes]], receipt: Receipt,
        positions: dict[str, str],
    ):
        """events: those of the rows."""
        self.rows, self.events, self.refused, self.receipt, self.positions = rows, events, refused, receipt, positions
        self.done = False
        self.error: Exception | None = None
        self.tell: Callable[[_Ticket], None] | None = None


class EventLog:
    """The log of one folder, open for writing. Every method may be called from any thread.

    Use `EventLog.open`, and `close` (or `with`) at the end. What was acknowledged survives a crash of the process and
    of the machine.
    """

    def __init__(self, folder: Path, rules: EventRules, lock: int, now: Callable[[], int]):
        self.folder, self.rules = folder, rules
        self._lock_file, self._now = lock, now
        self._commit_lock, self._queue_lock = threading.Lock(), threading.Lock()
        self._tail_lock = threading.Lock()
        self._tail: deque[Entry] = deque(maxlen=_TAIL)
        """the latest events without a gap, so that whoever follows the log need not read what was just written"""
        self._queue: deque[_Ticket] = deque()
        self._draining = False
        self._writer = connect(folder / DATABASE)
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._executor = ThreadPoolExecutor(1, "event-log")
        last = self._writer.execute("SELECT position FROM positions WHERE name = ?", (_LAST,)).fetchone()
        held = self._writer.execute("SELECT coalesce(max(offset), 0) FROM events").fetchone()[0]
        self._last = max(held, 0 if last is None else int(last[0]))
        self._closed = False

    @classmethod
    def open(
        cls, folder: str | os.PathLike, rules: EventRules | None = None, *, now: Callable[[], int] | None = None
    ) -> Self:
        """Open the log of a folder, which is made where it is not there.

        rules: what is accepted. now: the clock, in µs. Raises LogInUse where another process has it open, StorageFull
        where the disk takes nothing, DataError where the file is no log.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RecsysError(f"cannot open a log in {folder}: {error.strerror}", "name another folder") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise LogInUse(
                f"{folder} is the log of a server that runs", "stop that server, or name another folder"
            ) from None
        try:
            return cls(folder, rules or EventRules(), lock, now or (lambda: time.time_ns() // 1000))
        except sqlite3.Error as error:
            os.close(lock)
            raise as_ours(error, folder) from None
        except DataError:
            os.close(lock)
            raise

    @property
    def last_offset(self) -> int:
        """Offset of the latest event, 0 for an empty log."""
        return self._last

    def append(
        self, events: Sequence[Event], *, positions: dict[str, str] | None = None,
        unreadable: Sequence[tuple[str, bytes]] = (),
    ) -> Receipt:
        """Write events and return when they are on the disk.

        Each is checked by the rules (`events.check`); those refused are named in the receipt and kept with the reason,
        the others are written in their order. An `event_id` that the log holds, or that came before in the same call,
        is counted as a duplicate. Raises StorageFull where the disk takes no more: then none of the call is written.

        positions: how far a source of events was read (`position`), written in the same transaction. unreadable: what
        came from it and is no event, with the reason, kept among the refused ones.
        """
        ticket = self._ticket(events, positions, unreadable)
        with self._queue_lock:
            self._require_open()
            self._queue.append(ticket)
        while not ticket.done:
            with self._commit_lock:
                if not ticket.done:
                    self._commit()
        if ticket.error is not None:
            raise ticket.error
        return ticket.receipt

    async def append_async(self, events: Sequence[Event]) -> Receipt:
        """As `append`, without blocking the event loop: concurrent callers share commits."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        ticket = self._ticket(events)

        def settle(ticket: _Ticket) -> None:
            if future.cancelled():
                return
            if ticket.error is not None:
                future.set_exception(ticket.error)
            else:
                future.set_result(ticket.receipt)

        ticket.tell = lambda done: loop.call_soon_threadsafe(settle, done)
        with self._queue_lock:
            self._require_open()
            self._queue.append(ticket)
            begin = not self._draining
            self._draining = True
        if begin:
            self._executor.submit(self._drain)
        return await future

    def read(self, after: int = 0, limit: int = 10_000) -> list[Entry]:
        """The next events behind an offset, in order; [] where there are none. What a person erased is left out.

        A consumer goes on from `entries[-1].offset`, or from `last_offset` as it was before the call where none came.
        """
        with self._tail_lock:
            behind = self._last - after
            if 0 <= behind <= len(self._tail):
                return [self._tail[-at] for at in range(behind, max(behind - limit, 0), -1)]
        rows = self._reader().execute(
            "SELECT offset, body FROM events WHERE offset > ? AND body IS NOT NULL ORDER BY offset LIMIT ?",
            (after, limit),
        )
        return [Entry(offset, decode(body)) for offset, body in rows]

    def erase(self, user_id: str) -> int:
        """Take all events of a person out of the log, those of others about them as an author too; how many.

        Their bytes are overwritten on the disk. A mark stays in their place, so that whoever replays the log, or knows
        the person from elsewhere, forgets them too. Offsets stay as they are.
        """
        now = self._now()
        gone = Event("erase", mark(user_id), timestamp=now)
        last = self._last
        found = _about(self._reader(), user_id, 0)  # the long look goes on beside those who write
        with self._commit_lock:
            self._require_open()
            try:
                found += _about(self._writer, user_id, last)
                self._erase(user_id, found, now, gone)
            except sqlite3.Error as problem:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.rollback()
                raise as_ours(problem, self.folder) from None
        return len(set(found))

    def _erase(self, user_id: str, offsets: list[int], now: int, gone: Event) -> None:
        cursor = self._writer.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        cursor.executemany(
            "UPDATE events SET id = NULL, user = NULL, body = NULL WHERE offset = ?", [(o,) for o in offsets]
        )
        cursor.execute("DELETE FROM rejects WHERE instr(body, ?) > 0", (user_id.encode(),))
        cursor.execute("INSERT INTO events VALUES (?, NULL, NULL, ?, ?)", (self._last + 1, now, encode(gone)))
        cursor.execute("COMMIT")
        with self._tail_lock:
            self._last += 1
            self._tail.clear()
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def trim(self, up_to: int) -> int:
        """Let go of the events up to an offset, which a run in use was trained on (`export`); how many.

        Their event ids are forgotten with them. Offsets go on as before.
        """
        with self._commit_lock:
            self._require_open()
            cursor = self._writer.cursor()
            try:
                cursor.execute("BEGIN IMMEDIATE")
                cursor.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (_LAST, str(self._last)))
                count = cursor.execute("DELETE FROM events WHERE offset <= ?", (up_to,)).rowcount
                cursor.execute("COMMIT")
                cursor.executescript("PRAGMA incremental_vacuum")  # `execute` would free a single page
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as problem:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.rollback()
                raise as_ours(problem, self.folder) from None
            with self._tail_lock:
                self._tail.clear()
        return count

    def position(self, name: str) -> str | None:
        """How far a source or a reader of this log has come, as `append` or `set_position` kept it; None for never."""
        row = self._reader().execute("SELECT position FROM positions WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def set_position(self, name: str, position: str) -> None:
        """Keep how far a reader of this log has come."""
        self.append([], positions={name: position})

    def rejects(self, limit: int = 100) -> list[tuple[int, str, str]]:
        """The latest refused events: µs of arrival, the reason, the event as JSON."""
        rows = self._reader().execute(
            "SELECT received, reason, body FROM rejects ORDER BY number DESC LIMIT ?", (limit,)
        )
        return [(received, reason, body.decode("utf-8", "replace")) for received, reason, body in rows]

    def close(self) -> None:
        """Write what waits and let go of the folder. A second call does nothing."""
        with self._queue_lock:
            if self._closed:
                return
            self._closed = True
        self._executor.shutdown(wait=True)
        with self._commit_lock:
            while self._queue:
                self._commit()
            for connection in (*self._readers, self._writer):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise RecsysError(f"the log of {self.folder} is closed", "open it again")

    def _ticket(
        self, events: Sequence[Event], positions: dict[str, str] | None = None,
        unreadable: Sequence[tuple[str, bytes]] = (),
    ) -> _Ticket:
        now, receipt = self._now(), Receipt()
        rows: list[Row] = []
        taken: list[Event] = []
        refused = [(now, reason, body[:LONGEST_BODY]) for reason, body in unreadable]
        for index, event in enumerate(events):
            reason = check(event, now, self.rules)
            if reason is None:
                body = encode(event)
                if len(body) <= LONGEST_BODY:
                    rows.append((event.event_id, event.user_id, now, body))
                    taken.append(event)
                    continue
                reason = f"the event takes {len(body):,} bytes, {LONGEST_BODY:,} are taken"
            receipt.rejected.append(Rejected(index, reason))
            refused.append((now, reason, msgspec.json.encode(event)[:LONGEST_BODY]))
        return _Ticket(rows, taken, refused, receipt, positions or {})

    def _drain(self) -> None:
        """Commit what the callers of `append_async` left, until nothing waits."""
        while True:
            with self._commit_lock:
                self._commit()
            with self._queue_lock:
                if not self._queue:
                    self._draining = False
                    return

    def _commit(self) -> None:
        """Write what waits in one transaction, and tell those who wait. Holds the commit lock."""
        tickets, count = [], 0
        with self._queue_lock:
            while self._queue and (not tickets or count + len(self._queue[0].rows) <= _MOST_AT_ONCE):
                tickets.append(self._queue.popleft())
                count += len(tickets[-1].rows)
        if not tickets:
            return
        error = None
        try:
            self._write(tickets)
        except sqlite3.Error as problem:
            with contextlib.suppress(sqlite3.Error):
                self._writer.rollback()
            error = as_ours(problem, self.folder)
        for ticket in tickets:
            ticket.error, ticket.done = error, True
            if ticket.tell is not None:
                ticket.tell(ticket)

    def _write(self, tickets: list[_Ticket]) -> None:
        known = self._known([row[0] for ticket in tickets for row in ticket.rows if row[0] is not None])
        offset, rows, refused, receipts, entries = self._last, [], [], [], []
        positions = [pair for ticket in tickets for pair in ticket.positions.items()]
        for ticket in tickets:
            fresh = 0
            for row, event in zip(ticket.rows, ticket.events, strict=True):
                if row[0] is not None:
                    if row[0] in known:
                        continue
                    known.add(row[0])
                fresh += 1
                rows.append((offset + fresh, *row))
                entries.append(Entry(offset + fresh, event))
            offset += fresh
            refused += ticket.refused
            receipts.append((fresh, len(ticket.rows) - fresh, offset))
        if rows or refused or positions:
            cursor = self._writer.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
            cursor.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", positions)
            if refused:
                cursor.executemany("INSERT INTO rejects(received, reason, body) VALUES (?, ?, ?)", refused)
                oldest = "(SELECT max(number) FROM rejects) - ?"
                cursor.execute(f"DELETE FROM rejects WHERE number <= {oldest}", (KEPT_REJECTS,))  # noqa: S608 - no input
            cursor.execute("COMMIT")
        with self._tail_lock:
            self._last = offset
            self._tail.extend(entries)
        for ticket, (accepted, duplicates, at) in zip(tickets, receipts, strict=True):
            ticket.receipt.accepted, ticket.receipt.duplicates, ticket.receipt.offset = accepted, duplicates, at

    def _known(self, ids: list[str]) -> set[str]:
        """Those of some event ids that the log holds."""
        found: set[str] = set()
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT id FROM events WHERE id IN ({marks})"  # noqa: S608 - question marks alone
            found.update(row[0] for row in self._writer.execute(query, part))
        return found

    def _reader(self) -> sqlite3.Connection:
        """A connection of this thread's own: reading neither waits for writing nor holds it up."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            self._require_open()
            connection = self._local.connection = connect(self.folder / DATABASE)
            with self._queue_lock:
                self._readers.append(connection)
        return connection


def _about(connection: sqlite3.Connection, user_id: str, after: int) -> list[int]:
    """Offsets of the events of a person, or about them as an author, behind an offset."""
    asked = "SELECT offset, user, body FROM events WHERE offset > ? AND (user = ? OR instr(body, ?) > 0)"
    rows = connection.execute(asked, (after, user_id, user_id.encode()))
    return [offset for offset, user, body in rows if user == user_id or decode(body).author_id == user_id]


def read_log(folder: str | os.PathLike, after: int = 0) -> Iterator[Entry]:
    """The events of a log behind an offset, in order, whether or not a server has it open; nothing is written.

    Raises DataError where the folder holds no log.
    """
    path = Path(folder) / DATABASE
    if not path.is_file():
        raise DataError(f"no log of events in {folder}", "name the folder that `recsys serve` writes its events to")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            require_layout(connection, path)
            asked = "SELECT offset, body FROM events WHERE offset > ? AND body IS NOT NULL ORDER BY offset"
            for offset, body in connection.execute(asked, (after,)):
                yield Entry(offset, decode(body))
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "restore it from a copy") from None
