"""How a file is written: its form, encoding, separator, quotes and header, told from its beginning."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recsys_cli.data.importer.batches import LINE
from recsys_cli.data.importer.containers import Kind, inspect, open_bytes
from recsys_cli.data.importer.guess.names import known_names
from recsys_cli.data.importer.mapping import Source
from recsys_cli.data.importer.readers import read
from recsys_cli.errors import DataError

SAMPLE_ROWS = 50_000
HEAD_BYTES = 1 << 18
"""Of the beginning of a text that separator and quotes are told from."""
CHECKED_BYTES = 64 << 20
"""Of a text whose encoding is checked."""
SEPARATORS = ("\t", "::", ",", ";", "|", "\x01", " ")
"""From the one that is the least likely to stand within a field."""
_TYPED = re.compile(r"^[^:\s]+:(token|float|token_seq|float_seq)$")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_SUFFIXES = {".csv": ",", ".tsv": "\t"}


@dataclass
class Doubt:
    """Something about a guess that its reader should know."""

    text: str
    key: str = ""
    """our column or key of the mapping that it is about, "" for none"""
    asks: bool = False
    """whether an import on this guess may be wrong in a way that does not show"""


@dataclass
class Looked:
    """One file: how it is written, and its first rows."""

    file: Path
    source: dict[str, Any]
    """keys of `Source` that are not as the name of the file would have them, but `files`"""
    frame: pl.DataFrame
    """the source columns of the first rows"""
    named: bool
    """whether the names of the columns are the file's own"""
    doubts: list[Doubt] = field(default_factory=list)


def look(file: Path) -> Looked:
    """Look at a file; raises DataError where it is of a kind that is not read, empty or no table."""
    if not file.is_file():
        raise DataError(f"no file {file}", "name files of rows: CSV, TSV, JSON lines or Parquet")
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty", "leave it out")
    kind = inspect(file)
    doubts: list[Doubt] = []
    if kind.table:
        return Looked(file, {}, _sample({}, file), True)
    source, head = _text(file, kind, doubts)
    if head.lstrip("\ufeff \t\r\n")[:1] == "{" or kind.array:
        suffix = next((s.lower() for s in reversed(file.suffixes) if s.lower() not in (".gz", ".zst", ".bz2")), "")
        if suffix not in (".jsonl", ".ndjson", ".json"):
            source["format"] = "jsonl"
        return Looked(file, source, _sample(source, file), True, doubts)
    named = _delimited(file, head, source, doubts)
    return Looked(file, source, _sample(source, file), named, doubts)


def _sample(source: dict[str, Any], file: Path) -> pl.DataFrame:
    """The first rows as the import reads them."""
    frames, rows = [], 0
    for batch in read(Source(files=[file.name], **source), file):
        frames.append(batch.frame.drop(LINE))
        rows += batch.frame.height
        if rows >= SAMPLE_ROWS:
            break
    frame = pl.concat(frames, how="diagonal_relaxed").head(SAMPLE_ROWS) if frames else pl.DataFrame()
    if frame.is_empty():
        raise DataError(f"{file} holds no rows", "leave it out")
    return frame


def _text(file: Path, kind: Kind, doubts: list[Doubt]) -> tuple[dict[str, Any], str]:
    """({"encoding"} where it is not UTF-8, the beginning of the text)."""
    source: dict[str, Any] = {}
    decoder = codecs.getincrementaldecoder("utf-8")()
    head, checked, encoding = b"", 0, kind.encoding
    with open_bytes(file, kind) as stream:
        while checked < CHECKED_BYTES and (piece := bytes(stream.read(1 << 20))):
            head = head if len(head) >= HEAD_BYTES else head + piece
            checked += len(piece)
            if encoding is None:
                try:
                    decoder.decode(piece)
                except UnicodeDecodeError:
                    encoding = source["encoding"] = _single_bytes(head + piece)
                    told = f"the text is not UTF-8 and read as {encoding}: do names with accents look right?"
                    doubts.append(Doubt(told, "encoding"))
    text = head[:HEAD_BYTES].decode(encoding or "utf-8", "ignore").lstrip("\ufeff")
    if "\x00" in text:
        raise DataError(f"{file} is no text", "give CSV, TSV, JSON lines or Parquet")
    return source, text if checked <= HEAD_BYTES else text[: text.rfind("\n") + 1] or text


def _single_bytes(content: bytes) -> str:
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252" if any(0x80 <= b < 0xA0 for b in content) else "latin-1"


def _delimited(file: Path, head: str, source: dict[str, Any], doubts: list[Doubt]) -> bool:
    """Fill separator, quote, header and names; returns whether the names are the file's own."""
    lines = [line for line in re.split(r"\r\n|\n|\r", head) if line.strip()][:2000]
    suffix = next((s for s in (s.lower() for s in reversed(file.suffixes)) if s in _SUFFIXES), "")
    if _is_adjacency(lines):
        users = [line.split()[0] for line in lines]
        keyed = len(set(users)) == len(users)
        source["format"] = "adjacency" if keyed else "sequences"
        told = "a user and then the items of that user" if keyed else "the items of one user, oldest first"
        doubts.append(Doubt(f"each line is read as {told}", "format"))
        return True
    separator, quote = _dialect(lines, _SUFFIXES.get(suffix, ""))
    if separator is None:
        raise DataError(f"{file}: no separator makes columns of its lines", "give `separator` in a mapping of your own")
    if separator != _SUFFIXES.get(suffix):
        source["separator"] = separator
    if quote is None and '"' in head:
        source["quote"] = "none"
    rows = _rows(lines, separator, quote)
    width = Counter(map(len, rows)).most_common(1)[0][0]
    rows = [row for row in rows if len(row) == width]
    first, rest = [name.strip() for name in rows[0]], rows[1:]
    if all(_TYPED.match(name) for name in first):
        source["typed_header"] = True
        return True
    header, sure = _is_header(first, rest)
    if header and not sure:
        doubts.append(
            Doubt(f"the first line is taken for the names of the columns: {', '.join(first)}", "header", True)
        )
    if header:
        return True
    source |= {"header": False, "names": [f"column_{n}" for n in range(1, width + 1)]}
    doubts.append(Doubt("the first line is data, so the columns have no names but those given here", "names"))
    return False


def _is_adjacency(lines: list[str]) -> bool:
    rows = [line.split() for line in lines]
    widths = {len(row) for row in rows}
    numbers = all(token.isdigit() for row in rows[:500] for token in row)
    return numbers and len(widths) > 2 and "\t" not in lines[0]


def _rows(lines: list[str], separator: str, quote: str | None) -> list[list[str]]:
    if quote is None or len(separator) > 1:
        return [line.split(separator) for line in lines]
    escape = {"escapechar": "\\"} if any('\\"' in line for line in lines) else {}
    try:
        return list(csv.reader(lines, delimiter=separator, quotechar=quote, **escape))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _dialect(lines: list[str], by_name: str) -> tuple[str | None, str | None]:
    """(the separator that gives most lines the same number of fields, the quote or None)."""
    best: tuple = ()
    for place, separator in enumerate(SEPARATORS):
        for quote in ('"', None):
            rows = _rows(lines, separator, quote)
            width, hits = Counter(map(len, rows)).most_common(1)[0]
            # rows that a quote swallowed are lost too
            share = hits / max(len(lines), 1)
            if width < 2 or share < 0.6:
                continue
            names = known_names(_rows(lines[:1], separator, quote)[0])
            likely = (share >= 0.98, round(share, 2), separator != " ", names, width, separator == by_name)
            found = (*likely, -place, quote or "")
            best = max(best, (*found, separator, quote)) if best else (*found, separator, quote)
    if best:
        return best[-2], best[-1]
    return (by_name, '"') if by_name else (None, None)


def _is_header(first: list[str], rest: list[list[str]]) -> tuple[bool, bool]:
    """(whether a line names the columns, whether that is beyond doubt)."""
    if len(set(first)) < len(first) or not rest:
        return not rest, False
    if sum(not name for name in first) > 1:
        return False, True
    if any(_NUMBER.fullmatch(name) for name in first if name):
        return False, True
    columns = list(zip(*rest, strict=True))
    numbers = [all(_NUMBER.fullmatch(v) for v in column[:200] if v.strip()) for column in columns]
    if any(numbers) or known_names(first) >= 2:
        return True, True
    if any(name in column for name, column in zip(first, columns, strict=True)):
        return False, True
    words = all(re.fullmatch(r"[A-Za-z_][\w .\-()#]{0,40}", name) for name in first if name)
    return words and known_names(first) >= 1, known_names(first) >= 1
