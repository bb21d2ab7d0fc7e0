"""Text files as blocks of whole rows in UTF-8, each with the number of its first line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recsys_cli.data.importer.containers import Kind, inspect, open_bytes
from recsys_cli.data.importer.mapping import Source
from recsys_cli.errors import ConfigError, DataError

BLOCK_BYTES = 8 << 20
LONGEST_ROW = 64 << 20
"""A quote left open must not make the rest of a file one row."""
LINE_END = r"\r\n|\n|\r"
_DOUBLED = re.compile(rb'(?<![\\,;\t|\n])""')
_ESCAPED = re.compile(rb'\\"[^\r\n",;\t|]')


@dataclass
class Dialect:
    """How the quotes of a file are written; `escape` may be found out on the way."""

    separator: str
    quote: str | None
    escape: str | None
    notes: dict[str, None] = field(default_factory=dict)
    """What was recognised without having been said."""

    def notice_escapes(self, content: bytes, file: Path) -> None:
        """Take backslashes before quotes as escapes from the first that can be nothing else."""
        if self.quote != '"' or self.escape is not None:
            return
        found = _ESCAPED.search(content)
        if found and not _DOUBLED.search(content):
            self.escape = "\\"
            told = "a backslash stands before quotes within fields, which is read as `escape: \"\\\\\"`"
            self.notes[f"{file.name}: {told}"] = None


@dataclass
class Block:
    """Whole rows."""

    content: bytes
    """UTF-8; line ends are \\n or \\r\\n, or single \\r where a file mixes them"""
    line: int
    """1-based number of its first line"""
    bytes_read: int


def blocks(source: Source, file: Path, dialect: Dialect | None, notes: dict[str, None]) -> Iterator[Block]:
    """Blocks of a text file; dialect None where quotes mean nothing. What was recognised goes to `notes`.

    Raises DataError where the file is of another encoding, or no text at all.
    """
    kind = inspect(file)
    decode = _decoder(source, kind, file, notes)
    rest, line, done, only_returns = b"", 1, 0, None
    with open_bytes(file, kind) as stream:
        while True:
            piece = bytes(stream.read(BLOCK_BYTES))
            rest += decode(piece, not piece)
            if not rest and not piece:
                return
            undecided = piece and rest.endswith(b"\r")  # the line feed may come with the next bytes
            if only_returns is None and b"\r" in rest and not undecided:
                only_returns = b"\n" not in rest and b"\r" in rest
                if only_returns:
                    notes[f"{file.name}: lines end in a carriage return alone"] = None
            if only_returns:
                rest = rest.replace(b"\r", b"\n")
            if dialect is not None:
                dialect.notice_escapes(rest, file)
            cut = _cut(rest, dialect) if piece else len(rest)
            if cut == 0 and len(rest) < LONGEST_ROW:
                continue
            content, rest = rest[: cut or len(rest)], rest[cut or len(rest) :]
            place = stream.place() if piece else file.stat().st_size
            yield Block(content, line, place - done)
            line += line_ends(content)
            done = place
            if not piece:
                return


def line_ends(content: bytes) -> int:
    """Line ends, a carriage return alone counted as one."""
    returns = content.count(b"\r")
    return content.count(b"\n") + (returns - content.count(b"\r\n") if returns else 0)


def _cut(content: bytes, dialect: Dialect | None) -> int:
    """Length of the longest beginning that ends with a line end outside quotes; 0 where there is none."""
    end = content.rfind(b"\n") + 1
    if dialect is None or dialect.quote is None or dialect.quote.encode() not in content:
        return end
    if dialect.escape:
        content = re.sub(re.escape(dialect.escape.encode()) + rb"(?s:.)", b"__", content)
    data = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(data == 10)
    quotes = _enclosing(data, dialect)
    outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _enclosing(data: np.ndarray, dialect: Dialect) -> np.ndarray:
    """Places of the quotes that open and close fields, in turn; those within unquoted fields mean nothing."""
    quotes = np.flatnonzero(data == ord(dialect.quote))
    edges = np.array([10, 13, ord(dialect.quote), *dialect.separator.encode()[-1:]], np.uint8)
    padded = np.concatenate([[np.uint8(10)], data, [np.uint8(10)]])
    stray = ~np.isin(padded[quotes], edges) & ~np.isin(padded[quotes + 2], edges)
    if not stray.any():
        return quotes
    found, inside, skip = [], False, -1
    starts = np.isin(padded[quotes], edges[edges != ord(dialect.quote)]).tolist()
    doubled = (padded[quotes + 2] == ord(dialect.quote)).tolist()
    for place, at_start, twice in zip(quotes.tolist(), starts, doubled, strict=True):
        if place == skip:
            continue
        if not inside and at_start:
            found.append(place)
            inside = True
        elif inside and twice:
            skip = place + 1
        elif inside:
            found.append(place)
            inside = False
    return np.array(found, np.int64)


def _decoder(source: Source, kind: Kind, file: Path, notes: dict[str, None]) -> Callable[[bytes, bool], bytes]:
    """A function from the next bytes of a file (and whether they are the last) to UTF-8 without byte-order mark."""
    try:
        name = codecs.lookup(source.encoding).name
    except LookupError:
        raise ConfigError(f"unknown encoding {source.encoding!r}", "for example utf-8, latin-1 or utf-16") from None
    shown = kind.encoding
    if shown and codecs.lookup(shown).name.partition("-sig")[0][:6] != name[:6]:
        notes[f"{file.name}: read as {shown.removesuffix('-sig').upper()}, which its first bytes show"] = None
        name = shown
    decoder = codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)()
    line = 1

    def decode(piece: bytes, last: bool) -> bytes:
        nonlocal line
        if name == "utf-8" and line > 1 and piece.isascii() and not last and not decoder.getstate()[0]:
            line += piece.count(b"\n")
            return piece
        try:
            text = decoder.decode(piece, last)
        except UnicodeDecodeError as error:
            at = line + error.object[: error.start].count(b"\n")
            raise DataError(
                f"{file} line {at}: not {name} (byte 0x{error.object[error.start]:02x})",
                "give its `encoding` in the mapping, for example latin-1 or cp1252",
            ) from None
        except UnicodeError as error:
            raise DataError(f"{file} is not {name}: {error}", "give its `encoding` in the mapping") from None
        content = text.encode("utf-8", "surrogatepass").removeprefix(b"\xef\xbb\xbf" if line == 1 else b"")
        line += content.count(b"\n")
        return content

    return decode


def read_lines(file: Path, what: str) -> dict[int, str]:
    """Number (from 1) → line of a small text file, blank ones left out, with its encoding recognised.

    what: for messages, such as "one user id a line". Raises DataError where it cannot be read or is no text.
    """
    try:
        text = b"".join(b.content for b in blocks(Source(files=str(file)), file, None, {})).decode()
    except FileNotFoundError:
        raise DataError(f"no file {file}", f"it must be text with {what}") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}", f"it must be text with {what}") from None
    except DataError as error:
        raise DataError(error.message, f"it must be UTF-8 or UTF-16 text with {what}") from None
    lines = {number: line.strip() for number, line in enumerate(re.split(LINE_END, text), 1) if line.strip()}
    for number, line in lines.items():
        odd = next((place for place, letter in enumerate(line, 1) if ord(letter) < 32 and letter != "\t"), None)
        if odd is not None:
            raise DataError(f"{file} line {number} column {odd}: a control character: this is no text",
                            f"it must be text with {what}")
    return lines
