"""Files as batches of raw rows, each row with its place; lines that do not parse are handed over apart."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys_cli.data.importer.mapping import Source
from recsys_cli.errors import ConfigError, DataError

BLOCK_BYTES = 8 << 20
LONGEST_ROW = 64 << 20
"""A quote left open must not make the rest of a file one row."""
PARQUET_ROWS = 1 << 17
LINE = "__line"
"""Column of batches: 1-based line of a text file, 1-based row of a Parquet file."""

_STAND_IN_SEPARATORS = b"\x1f\x1e\x1d\x1c\x01\x02\x03"


@dataclass
class Batch:
    """Rows of one file. `frame` has the source columns and `LINE`; `bad` are (line, reason, text)."""

    file: Path
    frame: pl.DataFrame
    bad: list[tuple[int, str, str]] = field(default_factory=list)
    bytes_read: int = 0
    """Of the file as it lies on the disk, since the batch before."""


def find_files(source: Source, folder: Path) -> list[Path]:
    """The files of a part, globs expanded in sorted order; [] where it is optional and none is there.

    Raises DataError where a file is missing.
    """
    found: list[Path] = []
    for pattern in source.files:
        matches = sorted(folder.glob(pattern)) if any(c in pattern for c in "*?[") else [folder / pattern]
        matches = [m for m in matches if m.is_file()]
        if not matches and not source.optional:
            raise DataError(f"no file {pattern} in {folder}", _what_is_there(folder))
        found.extend(m for m in matches if m not in found)
    return found


def _what_is_there(folder: Path) -> str:
    if not folder.is_dir():
        return "the folder given with --from does not exist"
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    return (
        f"it holds {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        if names
        else "the folder is empty"
    )


def _form(source: Source, file: Path) -> tuple[str, str]:
    """(format, separator) of a file, from the mapping or else from the name."""
    suffixes = [s.lower() for s in file.suffixes if s.lower() not in (".gz", ".zst")]
    last = suffixes[-1] if suffixes else ""
    known = {
        ".csv": "csv",
        ".tsv": "csv",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "jsonl",
        ".parquet": "parquet",
    }
    form = source.format or known.get(last) or ("csv" if source.separator else None)
    if form is None:
        raise ConfigError(
            f"the form of {file.name} does not show in its name",
            "give `format` (and `separator`) in the mapping",
        )
    by_name = {".csv": ",", ".tsv": "\t"}
    separator = source.separator or by_name.get(last) or (" " if form in ("adjacency", "sequences") else None)
    if form == "csv" and separator is None:
        raise ConfigError(
            f"the separator of {file.name} does not show in its name", "give `separator` in the mapping"
        )
    return form, separator or ""


def read(source: Source, file: Path, columns: list[str] | None = None) -> Iterator[Batch]:
    """Batches of a file.

    columns: the source columns wanted, None for all; those that the file has not are left out.
    Raises DataError where the file is unreadable, truncated, empty or of another encoding.
    """
    form, separator = _form(source, file)
    with _unreadable(file):
        if form == "parquet":
            yield from _read_parquet(file, columns)
        elif form == "csv":
            yield from _read_csv(source, file, separator, columns)
        elif form == "jsonl":
            yield from _read_json(source, file, columns)
        else:
            yield from _read_lists(source, file, separator, form == "adjacency")


def column_names(source: Source, file: Path) -> list[str] | None:
    """Names of the source columns of a file; None for JSON lines, where each row has its own."""
    form, separator = _form(source, file)
    if form == "jsonl":
        return None
    if form in ("adjacency", "sequences"):
        return ["user", "item", "rank"]
    if source.names and form == "csv":
        return list(source.names)
    with _unreadable(file):
        if form == "parquet":
            return pq.read_schema(file).names
        block = next(_blocks(source, file, source.quote), None)
        return [] if block is None else _header(source, file, block.content, separator)[0]


def first_columns(source: Source, file: Path) -> list[str]:
    """Names of the source columns, for JSON lines those of the first rows."""
    names = column_names(source, file)
    if names is None:
        first = next(read(source, file), None)
        names = first.frame.drop(LINE).columns if first else []
    return names


@contextlib.contextmanager
def _unreadable(file: Path) -> Iterator[None]:
    try:
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty", "give a file with rows, or leave it out of the mapping")
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(
            f"{file} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "the file is damaged, truncated or of another form than its name and the mapping say",
        ) from None


# --- text in blocks of whole lines -----------------------------------------------------------------------


@dataclass
class _Block:
    content: bytes
    """UTF-8, whole rows"""
    line: int
    """1-based number of its first line"""
    bytes_read: int


def _blocks(source: Source, file: Path, quote: str | None) -> Iterator[_Block]:
    compression = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix.lower())
    decode = _decoder(source.encoding, file)
    rest, line, done = b"", 1, 0
    with (
        pa.OSFile(str(file)) as raw,
        pa.CompressedInputStream(raw, compression) if compression else raw as stream,
    ):
        while True:
            piece = stream.read(BLOCK_BYTES)
            rest += decode(piece, not piece)
            if not rest and not piece:
                return
            cut = _cut(rest, quote) if piece else len(rest)
            if cut == 0 and len(rest) < LONGEST_ROW:
                continue
            content, rest = rest[: cut or len(rest)], rest[cut or len(rest) :]
            place = raw.tell() if piece else file.stat().st_size
            yield _Block(content, line, place - done)
            line += content.count(b"\n")
            done = place
            if not piece:
                return


def _cut(content: bytes, quote: str | None) -> int:
    """Length of the longest beginning that ends with a line end outside quotes; 0 where there is none."""
    end = content.rfind(b"\n") + 1
    if quote is None or quote.encode() not in content:
        return end
    data = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(data == 10)
    quotes = np.flatnonzero(data == ord(quote))
    outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _decoder(encoding: str, file: Path) -> Callable[[bytes, bool], bytes]:
    """A function from the next bytes of a file (and whether they are the last) to UTF-8 without byte-order mark."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ConfigError(f"unknown encoding {encoding!r}", "for example utf-8, latin-1 or utf-16") from None
    decoder = codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)()
    line = 1

    def decode(piece: bytes, last: bool) -> bytes:
        nonlocal line
        try:
            text = decoder.decode(piece, last)
        except UnicodeDecodeError as error:
            at = line + error.object[: error.start].count(b"\n")
            raise DataError(
                f"{file} line {at}: not {encoding} (byte 0x{error.object[error.start]:02x})",
                "give its `encoding` in the mapping, for example latin-1 or cp1252",
            ) from None
        content = text.encode("utf-8", "surrogatepass")
        line += content.count(b"\n")
        return content

    return decode


# --- forms ------------------------------------------------------------------------------------------------


def _read_csv(source: Source, file: Path, separator: str, columns: list[str] | None) -> Iterator[Batch]:
    names = source.names
    for block in _blocks(source, file, source.quote):
        content, line = block.content, block.line
        if line == 1 and source.header:
            header, content, skipped = _header(source, file, content, separator)
            names, line = names or header, line + skipped
        frame, bad = _parse_csv(content, line, separator, names, source.quote)
        wanted = [c for c in names if columns is None or c in columns]
        yield Batch(file, frame.select(*wanted, LINE), bad, block.bytes_read)


def _header(source: Source, file: Path, content: bytes, separator: str) -> tuple[list[str], bytes, int]:
    first, end, rest = content.partition(b"\n")
    text = first.decode().rstrip("\r")
    if source.quote and len(separator) == 1:
        names = next(csv.reader(io.StringIO(text), delimiter=separator, quotechar=source.quote), [])
    else:
        names = text.split(separator)
    names = [n.strip() for n in names]
    if source.typed_header:
        names = [n.partition(":")[0] for n in names]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(
            f"{file} line 1: column {twice!r} stands twice", "give `names` in the mapping, or `header: false`"
        )
    return names, rest, 1 if end else 0


def _parse_csv(
    content: bytes, line: int, separator: str, names: list[str], quote: str | None
) -> tuple[pl.DataFrame, list[tuple[int, str, str]]]:
    """All columns as text, with their lines; rows of another width apart."""
    written = separator
    if len(separator) > 1:
        stand_in = next((c for c in _STAND_IN_SEPARATORS if bytes([c]) not in content), None)
        if stand_in is None:
            raise DataError(
                f"line {line}: control characters in a file with separator {separator!r}", "clean the file"
            )
        content, separator = content.replace(separator.encode(), bytes([stand_in])), chr(stand_in)
    ragged: list[tuple[int, int, str]] = []

    def invalid(row) -> str:
        ragged.append((row.number, row.actual_columns, row.text))
        return "skip"

    if not content.strip(b"\r\n"):
        return pl.DataFrame(schema=dict.fromkeys([*names, LINE], pl.String) | {LINE: pl.Int64}), []
    table = pa_csv.read_csv(
        pa.py_buffer(content),
        pa_csv.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=names),
        pa_csv.ParseOptions(
            delimiter=separator,
            quote_char=quote or False,
            double_quote=True,
            newlines_in_values=quote is not None,
            ignore_empty_lines=False,
            invalid_row_handler=invalid,
        ),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
        ),
    )
    frame = pl.from_arrow(table)
    rows = frame.height + len(ragged)
    inside = np.zeros(rows, np.int64)
    """line ends within the quoted fields of each row"""
    bad_rows = np.array([number for number, _, _ in ragged], np.int64) - 1
    good = np.ones(rows, bool)
    good[bad_rows] = False
    if quote is not None and quote.encode() in content:
        ends = frame.select(pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True))).to_series()
        inside[good] = ends.to_numpy()
        inside[bad_rows] = [text.rstrip("\r\n").count("\n") for _, _, text in ragged]
    lines = line + np.arange(rows) + np.cumsum(inside) - inside
    if b"\n\n" in content or b"\n\r\n" in content or content[:1] in (b"\n", b"\r"):
        texts = content.split(b"\n")
        blank = np.array([not texts[n - line].strip(b"\r") for n in lines])
        frame, good = frame.filter(~blank[good]), good & ~blank
    bad = [
        (
            int(lines[row]),
            f"{width} fields where {len(names)} are due",
            text.rstrip("\r\n").replace(separator, written),
        )
        for row, (_, width, text) in zip(bad_rows, ragged, strict=True)
    ]
    return frame.with_columns(pl.Series(LINE, lines[good])), bad


def _read_json(source: Source, file: Path, columns: list[str] | None) -> Iterator[Batch]:
    seen: dict[str, None] = {}
    for block in _blocks(source, file, None):
        rows, lines, bad = [], [], []
        for n, text in enumerate(block.content.split(b"\n"), block.line):
            if not text.strip():
                continue
            try:
                row = orjson.loads(text)
                if not isinstance(row, dict):
                    raise ValueError("not a JSON object")
            except ValueError as error:
                bad.append((n, f"not a JSON object: {str(error).split(':')[0]}", text.decode()[:500]))
                continue
            rows.append(row)
            lines.append(n)
        # a key that some rows leave out is a column all the same
        seen |= dict.fromkeys(k for row in rows for k in row)
        names = [c for c in (seen if columns is None else columns) if c in seen]
        frame = pl.DataFrame({c: _json_series([row.get(c) for row in rows]) for c in names})
        yield Batch(file, frame.with_columns(pl.Series(LINE, lines, dtype=pl.Int64)), bad, block.bytes_read)


def _json_series(values: list) -> pl.Series:
    kinds = {type(v) for v in values if v is not None}
    if kinds == {list}:
        return pl.Series(
            [None if v is None else [_json_text(x) for x in v] for v in values], dtype=pl.List(pl.String)
        )
    if kinds <= {bool} and kinds:
        return pl.Series(values, dtype=pl.Boolean)
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pl.Series(values, dtype=pl.Int64)
    if kinds and kinds <= {int, float}:
        return pl.Series(values, dtype=pl.Float64, strict=False)
    return pl.Series([None if v is None else _json_text(v) for v in values], dtype=pl.String)


def _json_text(value) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _read_parquet(file: Path, columns: list[str] | None) -> Iterator[Batch]:
    size = file.stat().st_size
    with pq.ParquetFile(file) as parquet:
        rows, row = parquet.metadata.num_rows, 1
        # nested columns have dotted leaves, so take the top-level names
        wanted = [c for c in parquet.schema_arrow.names if columns is None or c in columns]
        for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=wanted, use_threads=True):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            lines = pl.Series(LINE, np.arange(row, row + frame.height))
            row += frame.height
            yield Batch(file, frame.with_columns(lines), [], size * frame.height // max(rows, 1))


def _read_lists(source: Source, file: Path, separator: str, keyed: bool) -> Iterator[Batch]:
    """Lines of tokens as rows (user, item, rank); of the first token or the line's number as user."""
    for block in _blocks(source, file, None):
        text = pl.Series("item", block.content.decode().split("\n"))
        lists = pl.DataFrame(
            [pl.Series(LINE, np.arange(len(text)) + block.line), text.str.strip_chars().str.split(separator)]
        )
        frame = explode(lists, "item").filter(pl.col("item") != "")
        frame = frame.with_columns(_places(frame[LINE].to_numpy()))
        if keyed:
            first = frame.filter(pl.col("rank") == 0).select(LINE, pl.col("item").alias("user"))
            frame = frame.filter(pl.col("rank") > 0).join(first, on=LINE, how="left", maintain_order="left")
            frame = frame.with_columns(pl.col("rank") - 1)
        else:
            frame = frame.with_columns(pl.col(LINE).alias("user"))
        yield Batch(file, frame.select("user", "item", "rank", LINE), [], block.bytes_read)


def explode(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """One row for each element of a list column, with `rank` its place from 0; empty lists give no row."""
    frame = frame.filter(pl.col(column).list.len() > 0)
    rows = np.repeat(np.arange(frame.height), frame[column].list.len().to_numpy())
    return frame.drop(column)[rows].with_columns(frame[column].explode(), _places(rows))


def _places(groups: np.ndarray) -> pl.Series:
    """Place of each row within its run of equal values, from 0."""
    n = np.arange(len(groups))
    starts = np.ones(len(groups), bool)
    starts[1:] = groups[1:] != groups[:-1]
    return pl.Series("rank", n - np.maximum.accumulate(np.where(starts, n, 0)))
