"""Results as bytes: JSON, rows, or the table that a person reads."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from recsys_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

USUAL_COLUMNS = 100
"""Width of a table that is not drawn on a terminal, where COLUMNS tells none."""


def show(render: Callable[[Console], None]) -> None:
    """Draw a result on stdout."""
    from recsys_cli.terminal import console

    render(console(width=None if sys.stdout.isatty() else _columns()))


def result_bytes(
    form: str,
    document: Any,
    render: Callable[[Console], None],
    rows: Iterable[dict] | None,
    *,
    raw: bool,
    terminal: bool,
) -> bytes:
    """A result in the form "table", "json", "jsonl", "csv" or "parquet"; arguments as of `Invocation.emit`.

    raw: CSV cells as they are. terminal: it goes to stdout.
    """
    if form == "table":
        from recsys_cli.terminal import console

        text = io.StringIO()
        render(console(file=text, width=_columns()))
        return text.getvalue().encode()
    if form == "json":
        return json_bytes(document, indent=terminal)
    rows = list(document if rows is None else rows)
    if form == "jsonl":
        return b"".join(json_bytes(row) for row in rows)
    return _table_bytes(form, rows, raw, terminal)


def _table_bytes(form: str, rows: list[dict], raw: bool, terminal: bool) -> bytes:
    import polars as pl

    from recsys_cli.spreadsheets import without_formulas

    frame = pl.DataFrame(rows, infer_schema_length=None)
    buffer = io.BytesIO()
    if form == "csv":
        nested = [c for c, t in frame.schema.items() if t.is_nested()]
        frame = frame.with_columns(
            pl.col(c).map_elements(lambda v: ";".join(map(str, v)), return_dtype=pl.String) for c in nested
        )
        (frame if raw else without_formulas(frame)).write_csv(buffer)
    else:
        if terminal and sys.stdout.isatty():
            raise UsageError("Parquet does not belong on a terminal", "name a file with --output, or redirect stdout")
        frame.write_parquet(buffer)
    return buffer.getvalue()


def _columns() -> int:
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isascii() and given.isdigit() and 0 < int(given) < 10_000 else USUAL_COLUMNS


def json_bytes(document: Any, *, indent: bool = False) -> bytes:
    """A document as JSON with a final newline; numpy is welcome, NaN and infinities become null."""
    import orjson

    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    if indent:
        options |= orjson.OPT_INDENT_2
    return orjson.dumps(_finite(document), option=options, default=str)


def _finite(value):
    """NaN and infinities have no place in JSON: they become null."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
