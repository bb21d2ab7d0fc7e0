"""Segments: the settled impressions of a log as Parquet files in the columns of a dataset's `impressions`.

Segment k holds the rows k·SIZE to (k + 1)·SIZE of the fold, written once none of them can change any more, so that a
segment never changes, but for people who are erased. `segments.json` keeps a digest of each: one that is missing or
damaged is told by it and made again from the log. Whatever reads Parquet reads them beside a server that runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from recsys_cli.files import file_digest, write_bytes, write_frame
from recsys_cli.serving.fold import Fold
from recsys_cli.serving.fold_table import table_of

if TYPE_CHECKING:
    pass

SIZE = 100_000
"""Rows of a segment."""
FOLDER = "segments"
INDEX = "segments.json"


class Segment(msgspec.Struct):
    """One file."""

    file: str
    rows: int
    """those of people who were erased left out"""
    first: int
    """µs, the earliest moment of a row"""
    last: int
    """µs, the latest"""
    digest: str
    """BLAKE2b-128 of the file"""


class _Index(msgspec.Struct):
    actions: list[str]
    size: int
    segments: list[Segment]
    erased: int = 0
    holes: int = 0
    """rows of the segments that were of people who are erased"""


@dataclass(frozen=True)
class Sealed:
    """What `Segments.seal` did."""

    new: int = 0
    """segments written for the first time"""
    rebuilt: int = 0
    """segments that were missing or damaged and were made again"""
    rewritten: int = 0
    """segments from which somebody was erased"""


class Segments:
    """The segments beside a log, in `FOLDER` of its folder."""

    def __init__(self, log: str | os.PathLike, size: int = SIZE):
        self.folder, self.size = Path(log) / FOLDER, size
        self._found: dict[str, tuple[str, int, int]] = {}

    def paths(self) -> list[Path]:
        """The files, in the order of the fold."""
        index = self._read()
        return [] if index is None else [self.folder / s.file for s in index.segments]

    def damaged(self) -> list[str]:
        """Names of segments that are missing or not as they were written."""
        index = self._read()
        return [] if index is None else [s.file for s in index.segments if not self._whole(s)]

    def seal(self, fold: Fold) -> Sealed:
        """Write every segment whose rows are settled and that is not there, is damaged, or holds somebody erased.

        fold: of the whole log so far.
        """
        index = self._read()
        if index is None or tuple(index.actions) != fold.actions or index.size != self.size:
            index = _Index(list(fold.actions), self.size, [])
        ready = fold.settled_rows // self.size
        holes = ready * self.size - self._rows_left(fold, 0, ready)
        if holes < index.holes:  # a fold made anew from a log without these people counts its rows otherwise
            index.segments = []
        if ready == len(index.segments) and len(fold.erased) == index.erased and not self.damaged():
            return Sealed()
        self.folder.mkdir(parents=True, exist_ok=True)
        new = rebuilt = rewritten = 0
        held = index.segments
        for k in range(ready):
            known = held[k] if k < len(held) else None
            if known is not None and self._whole(known):
                if len(fold.erased) == index.erased or self._rows_left(fold, k, k + 1) == known.rows:
                    continue
                rewritten += 1
            elif known is not None:
                rebuilt += 1
            else:
                new += 1
            held[k : k + 1] = [self._write(fold, k)]
        index.erased, index.holes = len(fold.erased), holes
        write_bytes(self.folder / INDEX, msgspec.json.format(msgspec.json.encode(index)))
        return Sealed(new, rebuilt, rewritten)

    def _rows_left(self, fold: Fold, first: int, end: int) -> int:
        """Rows of some segments that are of somebody."""
        user = np.array(fold.columns["user"][first * self.size : end * self.size])
        return int((user >= 0).sum())

    def _write(self, fold: Fold, k: int) -> Segment:
        frame = table_of(fold, k * self.size, (k + 1) * self.size)
        frame = frame.filter(frame["user_id"].is_not_null())
        path = self.folder / f"part-{k:05d}.parquet"
        write_frame(path, frame.write_parquet, compression="zstd", statistics=True)
        times = frame["timestamp"].dt.epoch("us")
        first, last = (0, 0) if not frame.height else (times.min(), times.max())
        return Segment(path.name, frame.height, first, last, file_digest(path))

    def _whole(self, segment: Segment) -> bool:
        """Whether a file is as it was written; read again only where it was touched since it was last found so."""
        path = self.folder / segment.file
        try:
            told = path.stat()
        except OSError:
            return False
        seen = (segment.digest, told.st_size, told.st_mtime_ns)
        if self._found.get(segment.file) != seen and file_digest(path) == segment.digest:
            self._found[segment.file] = seen
        return self._found.get(segment.file) == seen

    def _read(self) -> _Index | None:
        """None where there is no index, or it cannot be read: then everything is written anew."""
        try:
            return msgspec.json.decode((self.folder / INDEX).read_bytes(), type=_Index)
        except (OSError, msgspec.DecodeError):
            return None
