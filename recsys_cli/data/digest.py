"""A digest of a table's content that does not depend on files, shards, chunks or row order.

Every row is hashed to 64 bits from its columns and the hashes are added modulo 2^64, so that shards can
be digested apart and in any order. This detects change; it is no defence against an adversary.
Row order is part of the content of `users` and `items` (it is the vocabulary): there the row number is
hashed along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from recsys_cli.hashing import mix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NULL = np.uint64(0xD6E8FEB86659FD93)


def _salt(name: str) -> np.uint64:
    return np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), np.uint64)[0]


def _segment_sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
    return total[offsets[1:]] - total[offsets[:-1]]


def _hash_bytes(array: pa.Array) -> np.ndarray:
    array = array.cast(pa.large_binary())
    buffers = array.buffers()
    offsets = np.frombuffer(buffers[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(buffers[2], np.uint8)[offsets[0] : offsets[-1]] if buffers[2] else np.zeros(0, np.uint8)
    offsets = offsets - offsets[0]
    lengths = np.diff(offsets)
    place = np.arange(len(data), dtype=np.uint64) - np.repeat(offsets[:-1].astype(np.uint64), lengths)
    mixed = mix((data.astype(np.uint64) + np.uint64(1)) * _GOLDEN + place)
    return mix(_segment_sums(mixed, offsets) + lengths.astype(np.uint64) * _GOLDEN)


def hash_array(array: pa.Array) -> np.ndarray:
    """uint64[n] hash of each value; integers of any width that are equal hash alike."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        valid = np.asarray(array.is_valid())
        codes = np.asarray(array.indices.fill_null(0)).astype(np.int64)
        hashes = hash_array(array.dictionary)
        out = hashes[codes] if len(hashes) else np.zeros(len(array), np.uint64)
        return np.where(valid, out, _NULL) if array.null_count else out
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        array = array.cast(pa.large_list(kind.value_type))
        offsets = np.asarray(array.offsets)
        values = hash_array(array.values.slice(offsets[0], offsets[-1] - offsets[0]))
        offsets = offsets - offsets[0]
        place = np.arange(len(values), dtype=np.uint64) - np.repeat(offsets[:-1].astype(np.uint64), np.diff(offsets))
        out = mix(_segment_sums(mix(values + place * _GOLDEN), offsets) + np.diff(offsets).astype(np.uint64))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        out = _hash_bytes(array.fill_null("" if not pa.types.is_binary(kind) else b""))
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        bits = np.asarray(array.cast(pa.float64()).fill_null(0.0)) + 0.0
        out = mix(bits.view(np.uint64))
    elif pa.types.is_boolean(kind):
        out = mix(np.asarray(array.fill_null(False).cast(pa.uint8())).astype(np.uint64))
    elif pa.types.is_timestamp(kind):
        out = mix(np.asarray(array.cast(pa.int64()).fill_null(0)).view(np.uint64))
    else:
        out = mix(np.asarray(array.cast(pa.int64()).fill_null(0)).view(np.uint64))
    if array.null_count:
        out = np.where(np.asarray(array.is_valid()), out, _NULL)
    return out


_SLICE = 2**15
"""Rows hashed at a time: a handful of arrays of so many words stays within a processor's cache."""


def _batch_sum(batch: pa.RecordBatch | pa.Table, first_row: int | None) -> int:
    total = 0
    for low in range(0, batch.num_rows, _SLICE):
        part = batch.slice(low, _SLICE)
        rows = np.zeros(part.num_rows, np.uint64)
        if first_row is not None:
            start = first_row + low
            rows += mix(np.arange(start, start + part.num_rows, dtype=np.uint64) + _GOLDEN)
        for name, column in zip(part.schema.names, part.columns, strict=True):
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            rows += _salted(column, _salt(name))
        total += int(np.sum(mix(rows), dtype=np.uint64))
    return total


def _salted(column: pa.Array, salt: np.uint64) -> np.ndarray:
    """uint64[n] hash of each value, mixed with the salt of its column."""
    if pa.types.is_boolean(column.type) and not column.null_count:
        # two values to hash instead of n
        return mix(hash_array(pa.array([False, True])) ^ salt)[np.asarray(column.cast(pa.uint8()))]
    if pa.types.is_dictionary(column.type) and not column.null_count and len(column.dictionary):
        return mix(hash_array(column.dictionary) ^ salt)[np.asarray(column.indices)]
    return mix(hash_array(column) ^ salt)


class TableDigest:
    """Running digest of a table: `update` with batches, `merge` with the digests of other shards.

    With `ordered` the row number counts too, and batches must come in row order.
    """

    def __init__(self, *, ordered: bool = False):
        self.rows = 0
        self.total = 0
        self.ordered = ordered

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        if batch.num_rows:
            self.total = (self.total + _batch_sum(batch, self.rows if self.ordered else None)) % 2**64
        self.rows += batch.num_rows

    def merge(self, other: TableDigest) -> None:
        if self.ordered or other.ordered:
            raise ValueError("shards of an ordered table cannot be digested apart")
        self.rows += other.rows
        self.total = (self.total + other.total) % 2**64

    def hexdigest(self) -> str:
        return f"{self.total:016x}"


ORDERED_TABLES = ("users", "items")


def table_digest(name: str, batches: Iterable[pa.RecordBatch | pa.Table]) -> TableDigest:
    """Digest of a whole table by its name (order counts in `users` and `items`)."""
    digest = TableDigest(ordered=name in ORDERED_TABLES)
    for batch in batches:
        digest.update(batch)
    return digest


def dataset_digest(tables: dict[str, str]) -> str:
    """One digest from the digests of all tables."""
    text = "\n".join(f"{name} {tables[name]}" for name in sorted(tables))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
