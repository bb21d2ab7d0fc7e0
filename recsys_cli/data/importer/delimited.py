"""Delimited text: all columns as text with the line of each row; what is no row is handed over apart."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from recsys_cli.data.importer.batches import LINE, Bad, Batch
from recsys_cli.data.importer.mapping import Source
from recsys_cli.data.importer.text import LINE_END, Dialect, blocks, line_ends
from recsys_cli.errors import DataError

UNNAMED = "unnamed"
"""A column whose name is empty, as `to_csv()` of a data frame writes its index."""
SWALLOWED = "a quoted field runs over this line and others that look like rows: a quote too many, or `quote: none`?"

_STAND_IN_SEPARATORS = b"\x1f\x1e\x1d\x1c\x01\x02\x03"


def read_csv(source: Source, file: Path, separator: str, columns: list[str] | None) -> Iterator[Batch]:
    """Batches of a delimited file."""
    dialect, names = Dialect(separator, source.quote, source.escape), source.names
    group = _Group() if source.format == "grouped" else None
    for block in blocks(source, file, dialect, notes := {}):
        content, line = block.content, block.line
        if line == 1 and source.header and group is None:
            header, content, skipped = header_of(source, file, content, dialect)
            if names is not None and len(names) != len(header):
                notes[f"{file.name}: `names` gives {len(names)} columns where the first line has {len(header)}"] = None
            names, line = names or header, line + skipped
        frame, bad = _parse(content, line, dialect, names, source.longest_field)
        if group is not None:
            frame, bad = group.fill(frame, bad)
        given = [*names, "group"] if group is not None else names
        wanted = [c for c in given if columns is None or c in columns]
        yield Batch(file, frame.select(*wanted, LINE), bad, block.bytes_read, [*notes, *dialect.notes])
        notes.clear()
        dialect.notes.clear()


def header_of(source: Source, file: Path, content: bytes, dialect: Dialect) -> tuple[list[str], bytes, int]:
    """(names of the columns, what follows the header, lines of the header)."""
    first = re.match(rb"[^\r\n]*", content).group()
    rest = content[len(first) :]
    end = re.match(rb"\r\n|\n|\r|", rest).group()
    names = split_line(first.decode(), dialect)
    names = [n.strip() for n in names]
    if not any(names):
        raise DataError(f"{file} line 1: an empty line where the names of the columns are due", "remove it")
    if source.typed_header:
        names = [n.partition(":")[0] for n in names]
    blank = [n for n, name in enumerate(names) if not name]
    for count, place in enumerate(blank, 1):
        names[place] = UNNAMED if count == 1 else f"{UNNAMED}_{count}"
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(
            f"{file} line 1: column {twice!r} stands twice", "give `names` in the mapping, or `header: false`"
        )
    return names, rest[len(end) :], 1 if end else 0


def split_line(text: str, dialect: Dialect) -> list[str]:
    """The fields of one line."""
    if dialect.quote and len(dialect.separator) == 1:
        how = {"delimiter": dialect.separator, "quotechar": dialect.quote, "escapechar": dialect.escape}
        return next(csv.reader(io.StringIO(text), **how), [])
    return text.split(dialect.separator)


@dataclass
class _Group:
    """The line `ID:` that heads the rows of its group."""

    last: str | None = None

    def fill(self, frame: pl.DataFrame, bad: list[Bad]) -> tuple[pl.DataFrame, list[Bad]]:
        """The rows with the column `group`; heads are no bad rows, rows before the first head are."""
        heads = [(line, text.strip()[:-1]) for line, _, text in bad if re.fullmatch(r"\s*\S+:\s*", text)]
        bad = [b for b in bad if not re.fullmatch(r"\s*\S+:\s*", b[2])]
        lines = np.array([line for line, _ in heads], np.int64)
        names = [self.last, *(name for _, name in heads)]
        at = np.searchsorted(lines, frame[LINE].to_numpy())
        frame = frame.with_columns(pl.Series("group", names, dtype=pl.String)[at])
        self.last = names[-1]
        lost = frame.filter(pl.col("group").is_null())
        bad += [(n, "stands before the first line `ID:`", "") for n in lost[LINE].to_list()]
        return frame.filter(pl.col("group").is_not_null()), bad


def _parse(
    content: bytes, line: int, dialect: Dialect, names: list[str], longest: int
) -> tuple[pl.DataFrame, list[Bad]]:
    """All columns as text, with their lines; rows of another width apart."""
    separator = dialect.separator
    if len(separator) > 1:
        stand_in = next((c for c in _STAND_IN_SEPARATORS if bytes([c]) not in content), None)
        if stand_in is None:
            raise DataError(
                f"line {line}: control characters in a file with separator {separator!r}", "clean the file"
            )
        content, separator = content.replace(separator.encode(), bytes([stand_in])), chr(stand_in)
    if not content.strip(b"\r\n"):
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String) | {LINE: pl.Int64}), []
    frame, ragged = _arrow(content, separator, dialect, names)
    rows = frame.height + len(ragged)
    inside = np.zeros(rows, np.int64)
    """line ends within the quoted fields of each row"""
    bad_rows = np.array([number for number, _, _ in ragged], np.int64) - 1
    good = np.ones(rows, bool)
    good[bad_rows] = False
    quoted = dialect.quote is not None and dialect.quote.encode() in content
    if quoted:
        inside[good] = _line_ends_within(frame, line_ends(content) != content.count(b"\n"))
        inside[bad_rows] = [line_ends(text.rstrip("\r\n").encode()) for _, _, text in ragged]
    lines = line + np.arange(rows) + np.cumsum(inside) - inside
    if _may_hold_blank_lines(content):
        texts = re.split(LINE_END.encode(), content)
        blank = np.array([not texts[n - line].strip(b"\r") if n - line < len(texts) else True for n in lines])
        frame, good = frame.filter(~blank[good]), good & ~blank
    bad: list[Bad] = []
    for row, (_, width, text) in zip(bad_rows, ragged, strict=True):
        if good[row] or not text.strip("\r\n"):
            continue
        text = text.replace(separator, dialect.separator)
        bad += _bad_row(int(lines[row]), width, text, dialect, len(names), longest)
    frame = frame.with_columns(pl.Series(LINE, lines[good]))
    if quoted and inside[good].any():
        frame, swallowed = _without_swallowed(frame, inside[good], separator, dialect.separator, names, longest)
        bad = sorted(bad + swallowed)
    return frame, bad


def _arrow(content: bytes, separator: str, dialect: Dialect, names: list[str]):
    """(the rows of the right width, the others as number from 1, width, text)."""
    ragged: list[tuple[int, int, str]] = []

    def invalid(row) -> str:
        ragged.append((row.number, row.actual_columns, row.text))
        return "skip"

    table = pa_csv.read_csv(
        pa.py_buffer(content),
        pa_csv.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=names),
        pa_csv.ParseOptions(
            delimiter=separator,
            quote_char=dialect.quote or False,
            escape_char=dialect.escape or False,
            double_quote=True,
            newlines_in_values=dialect.quote is not None,
            ignore_empty_lines=False,
            invalid_row_handler=invalid,
        ),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
        ),
    )
    return pl.from_arrow(table), ragged


def _line_ends_within(frame: pl.DataFrame, bare_returns: bool) -> np.ndarray:
    """Line ends in the fields of each row; with `bare_returns` a carriage return alone is one."""
    found = pl.all().str.count_matches(LINE_END) if bare_returns else pl.all().str.count_matches("\n", literal=True)
    return frame.select(pl.sum_horizontal(found)).to_series().to_numpy()


def _may_hold_blank_lines(content: bytes) -> bool:
    return content[:1] in (b"\n", b"\r") or any(b in content for b in (b"\n\n", b"\n\r", b"\r\r"))


def _bad_row(line: int, width: int, text: str, dialect: Dialect, due: int, longest: int) -> list[Bad]:
    """A row of another width: one entry, or one for each line where it swallowed other rows."""
    text = text.rstrip("\r\n")
    first, *more = re.split(LINE_END, text)
    pattern = _row_pattern(dialect.separator, due)
    rowlike = sum(bool(re.match(pattern, t)) for t in more[: 2 * longest] if (dialect.quote or "\n") not in t)
    if len(more) <= longest and (due == 1 or not rowlike or 2 * rowlike < len(more)):
        first, more = text, []
    reason = f"{width} fields where {due} are due"
    if width == 1 and due > 1 and re.fullmatch(r"\s*\S+:\s*", text):
        reason += " (does it head the rows below? `format: grouped` reads them)"
    return [(line, reason, first), *((line + n, SWALLOWED, t) for n, t in enumerate(more, 1) if t)]


def _row_pattern(separator: str, width: int) -> str:
    """Of a line that looks like a row of so many fields: none is empty and none begins with a blank."""
    sep = re.escape(separator)
    other = f"(?:(?!{sep}).)*" if len(separator) > 1 else f"[^{sep}]*"
    begins = f"[^{sep}\\s]" if len(separator) == 1 else "\\S"
    return f"^{begins}{other}" + f"{sep}{begins}{other}" * (width - 1) + "$"


def _without_swallowed(
    frame: pl.DataFrame, inside: np.ndarray, separator: str, written: str, names: list[str], longest: int
) -> tuple[pl.DataFrame, list[Bad]]:
    """Rows whose quoted fields swallowed other rows are taken out, one bad entry for each line that they took.

    A field swallows where it runs over more than `longest` lines, or where at least half of the lines within it
    look like rows: as many separators as a row has, with something between each two and no blank after them.
    """
    row = _row_pattern(separator, len(names))
    many = np.flatnonzero(inside > 0)
    taken: dict[int, None] = {}
    for name in names:
        field = frame[name].gather(many)
        lines = field.str.split("\n").list.slice(1)
        rowlike = lines.list.eval(pl.element().str.strip_chars_end('\r"').str.contains(row)).list.sum()
        swallows = (lines.list.len() > longest) | ((rowlike > 0) & (2 * rowlike >= lines.list.len()))
        if len(names) == 1:
            swallows = lines.list.len() > longest
        taken |= dict.fromkeys(many[swallows.fill_null(False).to_numpy()].tolist())
    if not taken:
        return frame, []
    bad: list[Bad] = []
    for at in sorted(taken):
        *fields, line = frame.row(at)
        first, *more = re.split(LINE_END, written.join(fields))
        bad += [(line, SWALLOWED, first), *((line + n, SWALLOWED, text) for n, text in enumerate(more, 1))]
    keep = np.ones(frame.height, bool)
    keep[list(taken)] = False
    return frame.filter(pl.Series(keep)), bad
