"""What a file is by its first bytes, whatever its name says: packed, an archive, another encoding, a table."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from recsys_cli.errors import DataError

HEAD = 1 << 12
"""Bytes from the beginning that decide."""

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
_TABLES = {b"PAR1": "parquet"}
_REFUSED = {
    b"SQLite format 3\x00": ("a SQLite database", "give `from: sqlite:///FILE` and `table` or `query` in the mapping"),
    b"ARROW1": ("an Arrow (Feather) file", "save it as Parquet"),
    b"\x89HDF\r\n": ("an HDF5 file", "save its table as Parquet or CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "save its sheet as CSV"),
    b"%PDF": ("a PDF", "give the table it shows as CSV"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it and name the files in it"),
    b"Rar!": ("a RAR archive", "unpack it and name the files in it"),
    b"version https://git-lfs": ("the pointer of a file kept in Git LFS", "fetch the file itself with `git lfs pull`"),
}
_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}


@dataclass(frozen=True)
class Kind:
    """What the first bytes of a file say."""

    packed: str | None
    """gzip, zstd, bz2, xz or zip"""
    table: str | None
    """parquet, where the file is no text"""
    encoding: str | None
    """an encoding that shows in the bytes, None where any may be right"""
    member: str = ""
    """name of the only file in a zip archive"""
    array: bool = False
    """whether the first character is the bracket that opens a JSON array"""


def inspect(file: Path) -> Kind:
    """Raises DataError with what to do where the file is of a kind that is not read."""
    with open(file, "rb") as handle:
        head = handle.read(HEAD)
    packed = next((kind for start, kind in _PACKED.items() if head.startswith(start)), None)
    member = ""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        packed, member = "zip", _only_member(file)
    if packed:
        with open_bytes(file, Kind(packed, None, None, member)) as stream:
            head = bytes(stream.read(HEAD))
    _refuse(file, head, packed)
    table = next((kind for start, kind in _TABLES.items() if head.startswith(start)), None)
    encoding = None if table else _encoding(head)
    text = head.decode(encoding or "latin-1", "replace").lstrip("\ufeff \t\r\n")
    array = text.startswith("[") and text[1:].lstrip()[:1] in ("{", "]", "")
    return Kind(packed, table, encoding, member, array)


def _refuse(file: Path, head: bytes, packed: str | None) -> None:
    for start, (what, hint) in _REFUSED.items():
        if head.startswith(start):
            raise DataError(f"{file} is {what}", hint)
    if head[257:262] == b"ustar":
        raise DataError(
            f"{file} is {'a packed' if packed else 'an'} archive (tar)",
            f"unpack it with `tar xf {file.name}` and name the files in it",
        )
    if packed and head.startswith((b"PK\x03\x04", *_PACKED)):
        raise DataError(f"{file} is packed twice", f"unpack it once, and name what comes out of the {packed}")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise DataError(f"{file} is a web page, not data", "download the file itself")


def _only_member(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [i for i in archive.infolist() if not i.is_dir() and not i.filename.startswith("__MACOSX/")]
    except zipfile.BadZipFile as error:
        raise DataError(f"{file} is a damaged zip archive: {error}", "download or copy it again") from None
    names = [i.filename for i in infos]
    if any(n.startswith(("xl/", "word/", "ppt/")) for n in names):
        raise DataError(f"{file} is an Office document", "save its sheet as CSV")
    if len(names) != 1:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        hint = f"unpack it and name one of {shown}" if shown else "it is empty"
        raise DataError(f"{file} is a zip archive of {len(names)} files", hint)
    if infos[0].flag_bits & 1:
        raise DataError(f"{file} is a zip archive with a password", "unpack it first")
    return names[0]


def _encoding(head: bytes) -> str | None:
    """The encoding that a byte-order mark or the places of zero bytes tell."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    pairs = len(head) // 2
    if pairs >= 4:
        even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
        # every second byte of Latin text is zero in UTF-16, and none is in any encoding of single bytes
        if odd > 0.7 * pairs and even < 0.1 * pairs:
            return "utf-16-le"
        if even > 0.7 * pairs and odd < 0.1 * pairs:
            return "utf-16-be"
    return None


@contextlib.contextmanager
def open_bytes(file: Path, kind: Kind) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file, with `place()`: how far the file on the disk was read."""
    with contextlib.ExitStack() as stack:
        if kind.packed in ("gzip", "zstd"):
            raw = stack.enter_context(pa.OSFile(str(file)))
            stream = stack.enter_context(pa.CompressedInputStream(raw, kind.packed))
        elif kind.packed == "zip":
            raw = stack.enter_context(open(file, "rb"))
            stream = stack.enter_context(stack.enter_context(zipfile.ZipFile(raw)).open(kind.member))
        else:
            raw = stack.enter_context(open(file, "rb"))
            unpack = {"bz2": bz2.BZ2File, "xz": lzma.LZMAFile}.get(kind.packed or "")
            stream = stack.enter_context(unpack(raw)) if unpack else raw
        yield _Placed(stream, raw)


class _Placed:
    """A stream beside the file that it comes from."""

    def __init__(self, stream, raw):
        self.read, self.place = stream.read, raw.tell
