"""Many arrays in one file that opens in one memory map: what a bundle is made of."""

from __future__ import annotations

import mmap
import os
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson

from recsys_cli.errors import ArtifactError

_MAGIC = b"RSARR001"
_ALIGN = 64


def find_sorted(held: np.ndarray, values: np.ndarray, low: int | None = None, high: int | None = None) -> np.ndarray:
    """int64, shape of `values`: places of values among ascending ones, len(held) where absent.

    low, high: bounds of the values, where known: a search among few stays in the processor's cache.
    """
    first, last = 0, len(held)
    if low is not None:
        first, last = held.searchsorted((low, high))
    if first == last:
        return np.full(values.shape, len(held))
    part = held[first:last]
    at = part.searchsorted(values)
    np.minimum(at, len(part) - 1, out=at)
    return np.where(part.take(at) == values, at + first, len(held))


def distinct(values: np.ndarray) -> np.ndarray:
    """The different ones of whole numbers [m], ascending; as `np.unique`, which first imports masked arrays."""
    values = np.sort(values, axis=None)
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def quantile(values: np.ndarray, share: float) -> float:
    """As `np.quantile` of numbers [m], m at least 1; without the masked arrays that it first imports."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    part = np.partition(values, (low, high))
    below, above, along = part[low], part[high], place - low
    # from the nearer side, as numpy does: both ends are met exactly
    return float(below + (above - below) * along if along < 0.5 else above - (above - below) * (1 - along))


_KEPT = threading.local()
CELLS = 2**22
"""Cells of the table by which `find_rows` looks up several rows at once."""


def find_rows(held: np.ndarray, first: np.ndarray, width: int, codes: np.ndarray) -> np.ndarray:
    """int32[B, ...]: places of the keys first · width + code among ascending ones, -1 where absent.

    held: int64[m] ascending. first: int64[B], -1 for none. codes: int[B, ...] or [1, ...] below width, -1 for none. The
    keys of one `first` stand together: they are written into a table of all codes, where looking one up takes no
    search. The table is kept by each thread, and only what was written is wiped.
    """
    if len(first) == 1 and len(codes) == 1:
        return _find_row(held, int(first[0]), width, codes)
    first = np.asarray(first, np.int64)
    codes = codes if len(codes) == len(first) else np.broadcast_to(codes, (len(first), *codes.shape[1:]))
    out = np.empty(codes.shape, np.int32)
    step = max(CELLS // (width + 1), 1)
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        mine, wanted = first[part], codes[part]
        low, high = held.searchsorted(mine * width), held.searchsorted((mine + 1) * width)
        count = high - low
        rows = np.repeat(np.arange(len(mine)), count)
        at = np.arange(len(rows)) + np.repeat(low - (np.cumsum(count) - count), count)
        cells = held[at] - np.repeat(mine * width, count) + rows * (width + 1) + 1
        base = (np.arange(len(mine)) * (width + 1) + 1).reshape(-1, *[1] * (codes.ndim - 1))
        table = _table(len(mine) * (width + 1))
        try:
            table[cells] = at + 1
            np.subtract(table.take(wanted + base), 1, out=out[part])
        finally:
            table[cells] = 0
    return out


def _find_row(held: np.ndarray, first: int, width: int, codes: np.ndarray) -> np.ndarray:
    """`find_rows` of one `first`, without the bookkeeping of several."""
    base = first * width
    low, high = held.searchsorted((base, base + width)).tolist()
    cells, table = held[low:high] - (base - 1), _table(width + 1)
    try:
        table[cells] = np.arange(low + 1, high + 1)
        out = table.take(codes + 1)
    finally:
        table[cells] = 0
    out -= 1
    return out


def in_rows(offsets: np.ndarray, values: np.ndarray, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """bool[B, K]: whether row `rows[b]` of ragged rows holds the number; rows and numbers of -1 give False.

    offsets: int64[n + 1], values: int[m] from 0 on, of which row i is values[offsets[i] : offsets[i + 1]]. wanted:
    int[B, K]. By a table as of `find_rows`.
    """
    if len(rows) == 1:  # of one row without the bookkeeping of several
        row = int(rows[0])
        cells = (values[offsets[row] : offsets[row + 1]] if row >= 0 else values[:0]) + np.int64(1)
        table = _table(max(int(wanted.max(initial=-1)), int(cells.max(initial=0))) + 2)
        try:
            table[cells] = 1
            return table.take(wanted + 1) > 0
        finally:
            table[cells] = 0
    rows = np.asarray(rows, np.int64)
    known = np.maximum(rows, 0)
    low, out = offsets[known], np.empty(wanted.shape, bool)
    count = np.where(rows >= 0, offsets[known + 1] - low, 0)
    width = int(wanted.max(initial=-1)) + 2
    step = max(CELLS // width, 1)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        first, many, size = low[part], count[part], min(step, len(rows) - start)
        of = np.repeat(np.arange(size), many)
        cells = values[np.arange(len(of)) + np.repeat(first - (np.cumsum(many) - many), many)] + np.int64(1)
        inside = cells < width
        cells = (cells + of * width)[inside]
        table = _table(size * width)
        try:
            table[cells] = 1
            out[part] = table.take(wanted[part] + (np.arange(size) * width + 1)[:, None])
        finally:
            table[cells] = 0
    return out


DENSE = 64
"""Numbers for each that a row holds up to which `count_in_rows` counts every number that may be asked for."""


def count_in_rows(rows: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int32[B, K]: how often each row holds the number; numbers of -1 give 0.

    rows: int64[m] ascending and values: int[m] from 0 on, what the rows hold. wanted: int[B, K]. Where a row holds
    little beside how many numbers there are, by a table as of `find_rows`.
    """
    width = int(wanted.max(initial=-1)) + 2
    out = np.empty(wanted.shape, np.int32)
    starts = rows.searchsorted(np.arange(len(wanted) + 1)).tolist()
    for row, (first, last) in enumerate(pairwise(starts)):
        mine = values[first:last]
        if width <= DENSE * (last - first):
            out[row] = np.bincount(mine, minlength=width).take(wanted[row], mode="wrap")
            continue
        cells = mine[mine < width - 1] + np.int64(1)
        table = _table(width)
        try:
            np.add.at(table, cells, 1)
            out[row] = table.take(wanted[row] + 1)
        finally:
            table[cells] = 0
    out[wanted < 0] = 0
    return out


def _table(size: int) -> np.ndarray:
    """int32 of at least that size, all zero; whoever writes into it wipes what was written."""
    table = getattr(_KEPT, "table", None)
    if table is None or len(table) < size:
        table = _KEPT.table = np.zeros(max(size, 2**16), np.int32)
    return table


def save_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray], meta: dict | None = None) -> None:
    """Write arrays (numbers, Booleans or fixed-width bytes) and a small JSON `meta` to one file."""
    index, offset = {}, 0
    contiguous = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    for name, a in contiguous.items():
        if a.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
        index[name] = {"dtype": a.dtype.str, "shape": list(arrays[name].shape), "offset": offset}
        offset += -(-a.nbytes // _ALIGN) * _ALIGN
    header = orjson.dumps({"arrays": index, "meta": meta or {}, "bytes": offset}, option=orjson.OPT_SERIALIZE_NUMPY)
    start = -(-(len(_MAGIC) + 8 + len(header)) // _ALIGN) * _ALIGN
    with open(path, "wb") as handle:
        handle.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        handle.write(b"\0" * (start - handle.tell()))
        for a in contiguous.values():
            handle.write(a.tobytes() if a.ndim == 0 else a.data)
            handle.write(b"\0" * (-a.nbytes % _ALIGN))


def load_arrays(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """Read what `save_arrays` wrote, as read-only views of a memory map, with its `meta`.

    Raises ArtifactError where the file is missing, truncated or of another kind.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            whole = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", "train again, or use another run") from None
    size = int.from_bytes(whole[8:16], "little") if whole[:8] == _MAGIC else -1
    if size < 0 or 16 + size > len(whole):
        raise ArtifactError(f"{path} is not an array file of this version", "train again, or use another run")
    header = orjson.loads(whole[16 : 16 + size])
    start = -(-(16 + size) // _ALIGN) * _ALIGN
    if start + header["bytes"] > len(whole):
        raise ArtifactError(f"{path} is truncated", "train again, or use another run")
    out = {}
    for name, entry in header["arrays"].items():
        count = int(np.prod(entry["shape"], dtype=np.int64))
        out[name] = np.frombuffer(whole, np.dtype(entry["dtype"]), count, start + entry["offset"]).reshape(
            entry["shape"]
        )
    return out, header["meta"]
