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

from recsys_cli.serving.fold import Fold
from recsys_cli.serving.memory import MemoryStore

_SCHEMA = "CREATE TABLE IF NOT EXISTS parts(name TEXT PRIMARY KEY, offset INTEGER, digest BLOB, body BLOB)"
VERSION = 1


class StateFile:
    """The file of one state; every method opens it anew, so that nothing is held between two."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def write(self, parts: dict[str, tuple[int, bytes]]) -> None:
        """Put all parts (name → offset, content) in the place of the earlier ones, together or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM parts")
            rows = [(name, offset, _digest(body), body) for name, (offset, body) in parts.items()]
            connection.executemany("INSERT INTO parts VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")

    def read(self) -> dict[str, tuple[int, bytes]] | None:
        """What was last written; None where there is no such file, or it is damaged or of another version."""
        if not self.path.is_file():
            return None
        try:
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    return None
                rows = connection.execute("SELECT name, offset, digest, body FROM parts").fetchall()
        except sqlite3.Error:
            return None
        if any(_digest(body) != digest for _, _, digest, body in rows):
            return None
        return {name: (offset, body) for name, offset, _, body in rows}

    def put_aside(self) -> None:
        """Move what cannot be used out of the way, beside it."""
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path, f"{self.path}.damaged")


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


def load_state(file: StateFile, actions: tuple[str, ...], start: int) -> tuple[Fold | None, MemoryStore] | None:
    """The fold and the memories as they were last written; None where they are to be made again from the log.

    The fold alone is None where it is of another run: of other actions, or begun behind another offset.
    """
    parts = file.read()
    if parts is None or not {"fold", "memories"} <= parts.keys():
        return None
    try:
        fold, memories = Fold.from_bytes(parts["fold"][1]), MemoryStore.from_bytes(parts["memories"][1])
    except (ValueError, KeyError):
        return None
    return fold if (fold.actions, fold.start) == (actions, start) else None, memories
