"""Files that lie elsewhere: object stores and other places that fsspec knows, named by an address (s3://bucket/path).

What is read is copied here first; what is written is made here first and put there whole when it is done. Keys and
endpoints come from where each store's own tools look for them (for S3 the AWS_* variables and ~/.aws).
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import orjson

from recsys_cli.errors import DataError, RecsysError, UsageError
from recsys_cli.files import inside, scratch_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

OBJECT_STORES = {"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a"}
"""Where a file appears whole or not at all; elsewhere it is written beside its place and moved."""
MANIFEST = "_export.json"
"""The file of a folder that names those an export wrote; it is put last, and a reader goes by it. Readers of Parquet
folders pass over names that begin so."""
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://\S")


def is_remote(text: object) -> bool:
    """Whether a text is the address of a file elsewhere; file:// is here."""
    found = _ADDRESS.match(str(text))
    return found is not None and found[1] not in ("file", "local")


def local_path(text: str) -> Path:
    """The path of a file here, with or without file:// before it."""
    return Path(re.sub(r"^(file|local)://", "", text))


def _store(address: str) -> tuple[AbstractFileSystem, str]:
    """(file system, path there) of an address; UsageError where there is no such kind of place, or no package for
    it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UsageError(f"{address}: {error}", "pip install 'recsys-cli[remote]' has it for S3 and Google") from error
    except ValueError as error:
        raise UsageError(f"{address}: {error}", "known are s3://, gs:// and what else fsspec knows") from error


@contextlib.contextmanager
def _refusals(what: str, address: str, hint: str) -> Iterator[None]:
    """Whatever a store refuses with, as an error of ours: each has exceptions of its own."""
    try:
        yield
    except (RecsysError, KeyboardInterrupt):
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise RecsysError(f"cannot {what} {address}: {told}", hint) from error


@contextlib.contextmanager
def published(address: str) -> Iterator[Path]:
    """Yield a path here for a file or a folder; what stands there when the block ends is put at the address.

    A file is replaced whole. A folder with a manifest gets its files under names of their own, then the manifest, and
    what an earlier manifest named is removed last: who goes by the manifest reads the old files or the new ones, never
    some of each. An upload that breaks off leaves what was there, and takes back what it had put. What another has
    put beside is never touched. Raises UsageError for an address that names no place, RecsysError where the store
    refuses; both before the block where that shows by then.
    """
    fs, place = _store(address)
    bucket, _, key = place.strip("/").partition("/")
    if not (key if _appears_whole(fs) else bucket):
        raise UsageError(f"{address} names no file", "give the name of a file after the bucket")
    again = "nothing was changed there; check the address, the keys and the network, then run the command again"
    with _refusals("reach", address, again), contextlib.suppress(PermissionError):  # who may write need not list
        try:
            if _appears_whole(fs):
                fs.info(bucket)
        except FileNotFoundError:
            raise UsageError(f"{address}: there is no bucket {bucket}", "make it, or name another") from None
    with scratch_folder() as folder:
        made = folder / PurePosixPath(place).name
        yield made
        if made.is_file():
            with _refusals("write", address, again):
                _put(fs, made, place)
        elif made.is_dir():
            with _refusals("write", address, again):
                _put_folder(fs, made, place)


def _appears_whole(fs: AbstractFileSystem) -> bool:
    return bool(({fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)) & OBJECT_STORES)


def _put(fs: AbstractFileSystem, file: Path, place: str) -> None:
    """A file, whole or not at all; OSError where less arrived than was sent."""
    whole = _appears_whole(fs)
    target = place if whole else f"{place}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        if not whole:
            fs.makedirs(str(PurePosixPath(place).parent), exist_ok=True)
        fs.put_file(str(file), target)
        fs.invalidate_cache()
        if (arrived := fs.size(target)) != (sent := file.stat().st_size):
            raise OSError(f"{arrived} of {sent} bytes arrived")
        if not whole:
            fs.mv(target, place)
    except BaseException:
        if not whole:
            with contextlib.suppress(Exception):
                fs.rm_file(target)
        raise


def _put_folder(fs: AbstractFileSystem, folder: Path, place: str) -> None:
    """The files of a folder and its manifest, in the place of those that an earlier manifest names."""
    document = orjson.loads((folder / MANIFEST).read_bytes())
    before = _manifest_at(fs, place)
    token = uuid.uuid4().hex[:8]
    named = {name: f"{PurePosixPath(name).stem}-{token}{PurePosixPath(name).suffix}" for name in document["files"]}
    put: list[str] = []
    try:
        for name, new in named.items():
            put.append(f"{place}/{new}")
            _put(fs, folder / name, put[-1])
        files = {named[name]: size for name, size in document["files"].items()}
        manifest = folder / f"{token}.json"
        manifest.write_bytes(orjson.dumps(document | {"files": files}))
        _put(fs, manifest, f"{place}/{MANIFEST}")
    except BaseException:
        for path in put:
            with contextlib.suppress(Exception):
                fs.rm_file(path)
        raise
    for name in before:
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{place}/{name}")


def _manifest_at(fs: AbstractFileSystem, place: str) -> list[str]:
    """Names of the files that an earlier manifest names; none where there is none of ours."""
    try:
        named = named_by_manifest(fs.cat_file(f"{place}/{MANIFEST}"))
    except FileNotFoundError:
        return []
    return [name for name in named or () if isinstance(name, str) and "/" not in name]


def named_by_manifest(content: bytes) -> dict[str, int] | None:
    """Name → bytes of the files that a manifest names; None for what is no manifest of ours."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    files = document.get("files") if isinstance(document, dict) and "export_version" in document else None
    return files if isinstance(files, dict) else None


@contextlib.contextmanager
def fetched(address: str, patterns: Iterable[str]) -> Iterator[Path]:
    """Yield a folder here with copies of the files below an address that any of the patterns names (a name or a glob),
    removed when the block ends. Raises DataError where the place cannot be read; a pattern that finds nothing is for
    the reader to judge."""
    fs, place = _store(address)
    with scratch_folder() as folder:
        hint = "check the address, the keys and the network"
        try:
            with _refusals("read", address, hint):
                for found in _matching(fs, place.rstrip("/"), patterns):
                    name = found.removeprefix(place.rstrip("/") + "/")
                    target = inside(folder, name)
                    if target is None:
                        raise DataError(f"{address}: the name {name!r} would lie outside the folder", "rename it there")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    fs.get_file(found, str(target))
        except RecsysError as error:
            raise DataError(error.message, error.hint) from error
        try:
            yield folder
        except RecsysError as error:  # people know the address alone
            error.message = error.message.replace(str(folder), address)
            raise


def _matching(fs: AbstractFileSystem, place: str, patterns: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        path = f"{place}/{pattern}"
        if any(c in pattern for c in "*?["):
            found |= dict.fromkeys(p for p in sorted(fs.glob(path)) if fs.isfile(p))
        elif fs.isfile(path):
            found[path] = None
    return list(found)
