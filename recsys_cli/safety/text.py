"""Texts as bags of hashed n-grams: one vectorised piece of code for training and for serving.

Words, pairs of words and the 2- to 5-grams of characters within words, hashed by a polynomial in the code points
that is taken from prefix sums, so that a batch of texts costs a few passes over one array whatever its shape.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.hashing import mix

if TYPE_CHECKING:
    import polars as pl

MAX_CHARACTERS = 1 << 16
"""Of a longer text the first and the last half of this many are read: a megabyte costs no more than 64 KiB."""
CHARACTERS_AT_ONCE = 1 << 20
"""Texts are taken together up to so many characters: bounds the memory of a large batch."""
SHORTEST, LONGEST = 2, 5
"""Characters in a character n-gram."""
BLOCKS = ("words", "characters")
"""Kinds of n-grams; each is brought to length one by itself."""

_URL = re.compile(r"(?:https?://|www\.)\S+")
_MENTION = re.compile(r"(?<!\w)@\w+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_DIGIT = re.compile(r"\d")
_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 1 << 64)
_SEEDS = {name: np.uint64(seed) for name, seed in (("words", 0x5851F42D4C957F2D), ("characters", 0x14057B7EF767814F))}


def normalise(text: str) -> str:
    """What the n-grams are taken from: entities resolved, compatibility forms folded (NFKC), signs without width left
    out, lower case, links and mentions reduced to one word each, digits to 0, white space to single spaces."""
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS // 2] + " " + text[-MAX_CHARACTERS // 2 :]
    if "&" in text:
        text = html.unescape(text)
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)[: 2 * MAX_CHARACTERS]).lower()
    text = _MENTION.sub("@user", _URL.sub("http", text))
    return " ".join(_DIGIT.sub("0", text).split())


def join_fields(names: Sequence[str], values: Sequence[str | None]) -> str:
    """Several columns as one text: the first as it is, each word of the others marked with its column's name."""
    parts = [values[0] or ""]
    for name, value in zip(names[1:], values[1:], strict=True):
        parts += [f"{name}__{word}" for word in re.split(r"[\s,;]+", value or "") if word]
    return " ".join(parts)


def words_of(column: pl.Series) -> pl.Series:
    """A column of a table as text, lists as words."""
    import polars as pl

    if column.dtype.base_type() in (pl.List, pl.Array):
        column = column.list.eval(pl.element().cast(pl.String)).list.join(" ")
    return column.cast(pl.String)


@dataclass(frozen=True)
class Grams:
    """The distinct n-grams of some texts: parallel arrays, sorted by text and n-gram."""

    rows: np.ndarray
    """int64 text"""
    keys: np.ndarray
    """uint32 hash; the last bit is the block (0 words, 1 characters)"""
    counts: np.ndarray
    """int64 occurrences"""


def grams(texts: Sequence[str | None]) -> Iterator[tuple[int, int, Grams]]:
    """(first, end, n-grams of texts[first:end]) in batches of bounded size; rows count from `first`."""
    batch, first, size = [], 0, 0
    for n, text in enumerate(texts):
        ready = normalise(text or "")
        if batch and size + len(ready) > CHARACTERS_AT_ONCE:
            yield first, n, _grams(batch)
            batch, first, size = [], n, 0
        batch.append(ready)
        size += len(ready) + 2
    if batch:
        yield first, first + len(batch), _grams(batch)


def _grams(texts: list[str]) -> Grams:
    joined = "".join(f" {text} " for text in texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    owner = np.repeat(np.arange(len(texts)), [len(text) + 2 for text in texts])
    power, inverse = _powers(len(codes) + 1)
    prefix = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes.astype(np.uint64) * power[:-1], out=prefix[1:])
    space = codes == 32
    rows, keys = [], []

    def add(block: str, start: np.ndarray, end: np.ndarray) -> None:
        # the length is mixed in, so that n-grams of different sizes never share their polynomial
        value = (prefix[end] - prefix[start]) * inverse[start] + (end - start).astype(np.uint64) * _SEEDS[block]
        key = (mix(value) >> np.uint64(33)).astype(np.uint32) << np.uint32(1) | np.uint32(BLOCKS.index(block))
        rows.append(owner[start])
        keys.append(key)

    start, end = _tokens(codes, space)
    add("words", start, end)
    pair = np.flatnonzero(owner[start[:-1]] == owner[start[1:]]) if len(start) else start
    add("words", start[pair], end[pair + 1] if len(pair) else end[pair])
    spaces = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(space, out=spaces[1:])
    for n in range(SHORTEST, LONGEST + 1):
        at = np.arange(len(codes) - n + 1)
        within = spaces[at + n - 1] == spaces[at + 1]
        if n == 2:  # the gap between two texts
            within &= ~(space[at] & space[at + 1])
        at = at[within]
        add("characters", at, at + n)
    return _count(np.concatenate(rows), np.concatenate(keys))


def _count(rows: np.ndarray, keys: np.ndarray) -> Grams:
    both = rows.astype(np.uint64) << np.uint64(32) | keys.astype(np.uint64)
    both.sort()
    if not len(both):
        return Grams(both.astype(np.int64), both.astype(np.uint32), both.astype(np.int64))
    first = np.flatnonzero(np.append(True, both[1:] != both[:-1]))
    distinct = both[first]
    counts = np.diff(np.append(first, len(both)))
    return Grams((distinct >> np.uint64(32)).astype(np.int64), distinct.astype(np.uint32), counts)


def _tokens(codes: np.ndarray, space: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of word characters, and runs of signs between them: int64 starts and ends."""
    values, place = np.unique(codes, return_inverse=True)
    word = np.array([chr(c).isalnum() or c in (39, 95) for c in values.tolist()], bool)[place]
    kind = np.where(space, 0, np.where(word, 1, 2))
    edge = np.flatnonzero(np.diff(kind)) + 1
    bounds = np.concatenate([[0], edge, [len(codes)]]).astype(np.int64)
    start, end = bounds[:-1], bounds[1:]
    some = kind[start] > 0 if len(codes) else np.zeros(1, bool)
    return start[some], end[some]


@lru_cache(maxsize=1)
def _all_powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    out = []
    for base in (_FACTOR, _INVERSE):
        values = np.full(size, base, np.uint64)
        values[0] = 1
        out.append(np.cumprod(values, dtype=np.uint64))
    return out[0], out[1]


def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    power, inverse = _all_powers(1 << max(12, (size - 1).bit_length()))
    return power[:size], inverse[:size]
