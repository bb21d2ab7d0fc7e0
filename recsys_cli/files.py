"""Files that are never half there: everything is written beside its place and moved in whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from recsys_cli.errors import RecsysError


def _beside(path: Path) -> Path:
    return path.parent / f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecsysError(
            f"cannot write {path}: {error.strerror or error}",
            "nothing was changed; free some space or choose another place, then run the command again",
        ) from error


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there when the block ends well, remove it otherwise.

    Raises RecsysError where the disk refuses (full, read-only, no such folder); `path` is then as it was.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def atomic_dir(path: str | os.PathLike, *, replace: bool = True) -> Iterator[Path]:
    """Yield an empty folder beside `path`; move it there when the block ends well, remove it otherwise.

    With `replace` an existing folder is swapped out first and removed last, so that a reader finds the
    old one or the new one. Raises RecsysError where the disk refuses or the place is taken.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        with _disk_errors(path):
            if path.exists() and not replace:
                raise RecsysError(f"{path} exists already", "choose another name or remove it first")
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                old = _beside(path)
                os.replace(path, old)
                os.replace(temporary, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def file_digest(path: str | os.PathLike) -> str:
    """BLAKE2b-128 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
