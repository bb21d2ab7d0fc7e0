"""StateFile: where the fold is kept between two starts, its offset and all it holds in one transaction.

The log is what counts: a file that is damaged, of another version or of other actions is put aside, and the fold is
made again from the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path

import msgspec

from recsys_cli.serving.fold import Copied, Fold
from recsys_cli.serving.memory import MemoryStore, decoded

_SCHEMA = """
CREATE TABLE IF NOT EXISTS folds(offset INTEGER NOT NULL, memories INTEGER NOT NULL, digest BLOB, body BLOB);
CREATE TABLE IF NOT EXISTS memories(user TEXT PRIMARY KEY, digest BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
"""
VERSION = 5


class StateFile:
    """The file of one state; every method opens it anew, so that nothing is held between two."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def write(self, fold: Copied, memories: dict[str, bytes | None], offset: int) -> None:
        """Put a fold and the memories that changed in the place of the earlier ones, all or nothing.

        memories: as `MemoryStore.changes` gives. offset: up to which memories are.
        """
        body = fold.to_bytes()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute(f"PRAGMA user_version={VERSION}")
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM folds")
            connection.execute("INSERT INTO folds VALUES (?, ?, ?, ?)", (fold.offset, offset, _digest(body), body))
            gone = [(name,) for name, held in memories.items() if held is None]
            kept = [(name, _digest(held), held) for name, held in memories.items() if held is not None]
            connection.executemany("DELETE FROM memories WHERE user = ?", gone)
            connection.executemany("INSERT OR REPLACE INTO memories VALUES (?, ?, ?)", kept)
            connection.execute("COMMIT")

    def read(self) -> tuple[Fold, MemoryStore] | None:
        """What was last written; None where there is no such file, or it is damaged or of another version."""
        if not self.path.is_file():
            return None
        try:
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    return None
                folds = connection.execute("SELECT memories, digest, body FROM folds").fetchall()
                rows = connection.execute("SELECT user, digest, body FROM memories").fetchall()
            if len(folds) != 1 or any(_digest(body) != digest for _, digest, body in (*folds, *rows)):
                return None
            return Fold.from_bytes(folds[0][2]), decoded(((name, body) for name, _, body in rows), folds[0][0])
        except (sqlite3.Error, ValueError, TypeError, KeyError, msgspec.DecodeError):  # a page may be anything
            return None

    def put_aside(self) -> None:
        """Move what cannot be used out of the way, beside it."""
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path, f"{self.path}.damaged")

    def drop_damaged(self) -> None:
        """Remove what was put aside."""
        Path(f"{self.path}.damaged").unlink(missing_ok=True)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()
