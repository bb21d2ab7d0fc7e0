"""JSON lines, JSON arrays and lines of Python dictionaries as batches; numbers keep every digit."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from recsys_cli.data.importer.batches import LINE, Batch
from recsys_cli.data.importer.containers import inspect
from recsys_cli.data.importer.mapping import Source
from recsys_cli.data.importer.text import Block, blocks
from recsys_cli.errors import DataError

EXACT = 2**53
"""Whole numbers up to this are exact as floats."""
_LONG = re.compile(rb"\d{19}")
_BLANK = re.compile(r"[\s,]*")


def read_json(source: Source, file: Path, columns: list[str] | None) -> Iterator[Batch]:
    """Batches of a file with one object a line, or of an array of objects."""
    seen: dict[str, None] = {}
    notes: dict[str, None] = {}
    within: set[str] = set()
    found = blocks(source, file, None, notes)
    parts = _array(found, file, notes) if inspect(file).array else _lines(found, file, notes)
    for rows, lines, bad, size in parts:
        # a key that some rows leave out is a column all the same
        seen |= dict.fromkeys(k for row in rows for k in row)
        names = [c for c in (seen if columns is None else columns) if c in seen]
        found_in = {c: [row.get(c) for row in rows] for c in names}
        for c in (c for c in columns or () if c not in seen and "." in c):
            inner = [inside(row, c.split(".")) for row in rows]
            if c in within or any(v is not None for v in inner):
                within.add(c)
                found_in[c] = inner
        frame = pl.DataFrame({c: series(values) for c, values in found_in.items()})
        yield Batch(file, frame.with_columns(pl.Series(LINE, lines, dtype=pl.Int64)), bad, size, list(notes))
        notes.clear()


def inside(value: Any, path: list[str]) -> Any:
    """What stands at a path of names within an object, None where nothing does.

    A list of objects with `name` and `value` is read like an object of such names.
    """
    for name in path:
        if isinstance(value, list):
            value = {v["name"]: v.get("value") for v in value if isinstance(v, dict) and "name" in v}
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _lines(found: Iterator[Block], file: Path, notes: dict[str, None]):
    first = True
    for block in found:
        rows, lines, bad = [], [], []
        load = _load_exactly if _LONG.search(block.content) else orjson.loads
        for n, text in enumerate(block.content.split(b"\n"), block.line):
            if not text.strip():
                continue
            try:
                row = _python(text) if text.lstrip().startswith((b"{'", b"{u'", b'{u"')) else load(text)
                if not isinstance(row, dict):
                    raise ValueError("not a JSON object")
            except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
                if first and text.strip() in (b"{", b"{,"):
                    raise DataError(
                        f"{file} is one JSON object over many lines, not one a line",
                        "write its rows as JSON lines, or as a JSON array of objects",
                    ) from None
                bad.append((n, f"not a JSON object: {str(error).split(':')[0]}", text.decode()[:500]))
                continue
            finally:
                first = False
            rows.append(row)
            lines.append(n)
        if rows and not bad and block.line == 1 and block.content.lstrip().startswith((b"{'", b"{u'")):
            notes[f"{file.name}: its lines are Python dictionaries, not JSON; they are read as such"] = None
        yield rows, lines, bad, block.bytes_read


def _python(text: bytes) -> Any:
    return ast.literal_eval(text.decode().strip())


def _load_exactly(text: bytes | str) -> Any:
    """JSON by Python's own parser, which keeps whole numbers of any length."""
    if isinstance(text, bytes) and not _LONG.search(text):
        return orjson.loads(text)
    return json.loads(text)


def _array(found: Iterator[Block], file: Path, notes: dict[str, None]):
    """Rows of a JSON array, object by object, so that memory stays bounded."""
    decoder, rest, line, opened = json.JSONDecoder(), "", 1, False
    notes[f"{file.name}: a JSON array; each of its objects is a row"] = None
    for block in found:
        rest += block.content.decode()
        rows, lines, bad, at = [], [], [], 0
        while True:
            start = _BLANK.match(rest, at).end()
            if not opened and rest[start : start + 1] == "[":
                start, opened = start + 1, True
                start = _BLANK.match(rest, start).end()
            line += rest.count("\n", at, start)
            at = start
            if at >= len(rest) or rest[at] == "]":
                break
            try:
                row, end = decoder.raw_decode(rest, at)
            except (ValueError, RecursionError):
                break  # the object goes on in the next block
            if isinstance(row, dict):
                rows.append(row)
                lines.append(line)
            else:
                bad.append((line, "not a JSON object", rest[at:end][:500]))
            line += rest.count("\n", at, end)
            at = end
        rest = rest[at:]
        yield rows, lines, bad, block.bytes_read
    if not rest.lstrip().startswith("]"):
        raise DataError(f"{file} line {line}: the JSON array breaks off", "the file is damaged or truncated")


def series(values: list) -> pl.Series:
    """A column of parsed JSON values: numbers where all are and none loses a digit, lists of texts, else texts."""
    kinds = {type(v) for v in values if v is not None}
    if kinds == {list}:
        return pl.Series(
            [None if v is None else [None if x is None else text_of(x) for x in v] for v in values],
            dtype=pl.List(pl.String),
        )
    if kinds <= {bool} and kinds:
        return pl.Series(values, dtype=pl.Boolean)
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pl.Series(values, dtype=pl.Int64)
    if kinds and kinds <= {int, float} and not any(isinstance(v, int) and abs(v) > EXACT for v in values):
        return pl.Series(values, dtype=pl.Float64, strict=False)
    return pl.Series([None if v is None else text_of(v) for v in values], dtype=pl.String)


def text_of(value: Any) -> str:
    """A JSON value as text: texts as they are, whole numbers without a point, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _json(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        value = int(value)
    return str(value) if isinstance(value, int) else _json(value)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a whole number of more than 64 bits somewhere within, or a value of Python's alone
        return json.dumps(value, default=str)
