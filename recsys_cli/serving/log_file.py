"""The SQLite file of a log: how it is opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from pathlib import Path

from recsys_cli.errors import DataError, RecsysError
from recsys_cli.serving.events import StorageFull

DATABASE = "events.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events(
    offset INTEGER PRIMARY KEY, id TEXT, user TEXT, received INTEGER NOT NULL, body BLOB);
CREATE UNIQUE INDEX IF NOT EXISTS events_id ON events(id) WHERE id IS NOT NULL;
CREATE TABLE IF NOT EXISTS rejects(
    number INTEGER PRIMARY KEY, received INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS positions(name TEXT PRIMARY KEY, position TEXT NOT NULL);
"""
_VERSION = 2
"""Of the tables and of what events hold; raised when either changes."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that any thread may use, the tables made where they are missing; raises sqlite3.Error."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
    try:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != 0:
            require_layout(connection, path)
        if version == 0:
            connection.executescript(_SCHEMA + f"PRAGMA user_version={_VERSION};")
    except (sqlite3.Error, DataError):
        connection.close()
        raise
    return connection


def require_layout(connection: sqlite3.Connection, path: Path) -> None:
    """Raises DataError where a log is of another layout than this program reads."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != _VERSION:
        raise DataError(
            f"{path} is a log of layout {version}, this program reads layout {_VERSION}",
            "run `recsys train --events` with the release that wrote it, then move its folder away",
        )


def as_ours(error: sqlite3.Error, folder: Path) -> RecsysError:
    """An error of SQLite as one of ours: StorageFull, DataError for a damaged file, or RecsysError."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    full = primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _no_space(folder))
    if full:
        return StorageFull(f"the disk of {folder} is full", "free some space: events are taken again at once")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return DataError(f"{folder / DATABASE} is damaged: {error}", "restore it from a copy, or name another folder")
    return RecsysError(f"{folder / DATABASE}: {error}")


def _no_space(folder: Path) -> bool:
    """Whether a file cannot grow here."""
    probe = folder / f".probe-{os.getpid()}-{threading.get_ident()}"
    try:
        with open(probe, "wb") as handle:
            handle.write(bytes(65_536))
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return False
