"""What is sent to the workers of a cluster: values, and folders of files for machines that do not see them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys_cli.files import inside, remove_folder, scratch_folder

CHUNK = 64 * 2**20
"""Bytes of a file that travel together."""
KEPT_SECONDS = 86_400
"""Copies that were not asked for so long are removed when others arrive."""
TOLD_BY = 2**20
"""Files of JSON up to so many bytes are compared by their content; they hold the digests of the others."""


class Sent:
    """An argument that a worker opens before the task gets it."""

    def opened(self) -> Any:
        raise NotImplementedError


class Absent(Exception):
    """A machine that does not see the files of a parcel, which did not come with them either."""

    def __init__(self, mark: str):
        super().__init__(mark)
        self.mark = mark


class Parcel(Sent):
    """A folder of files: a path where a machine sees the same files there, else copies of them that travel once a
    machine, by way of the object store."""

    def __init__(self, root: Path, within: str, files: dict[str, int], mark: str):
        """files: name below `root` → bytes. mark: stands for names, sizes and the content of small JSON files."""
        self._root, self._within, self._files, self.mark = root, within, files, mark
        self._chunks: list[tuple[str, Any]] = []

    @classmethod
    def of(cls, root: Path, within: str = "") -> Parcel:
        """The files below root/within."""
        files, mark = _look(root, within)
        return cls(root, within, files, mark)

    def fill(self, put: Callable[[bytes], Any]) -> None:
        """Put the files into the object store, chunk by chunk, unless they are there."""
        if self._chunks:
            return
        chunks = []
        for name in self._files:
            with open(self._root / name, "rb") as handle:
                while (content := handle.read(CHUNK)) or not chunks or chunks[-1][0] != name:
                    chunks.append((name, put(content)))
        self._chunks = chunks

    def opened(self) -> Path:
        """Path of the root on this machine; raises Absent where the files are neither here nor sent."""
        import tempfile

        try:
            if _look(self._root, self._within)[1] == self.mark:
                return self._root
        except OSError:
            pass
        copies = Path(tempfile.gettempdir()) / f"recsys-inputs-{os.geteuid()}"
        place = copies / self.mark
        if not place.is_dir():
            if not self._chunks:
                raise Absent(self.mark)
            self._unpack(copies)
        os.utime(place)
        return place

    def _unpack(self, copies: Path) -> None:
        copies.mkdir(mode=0o700, exist_ok=True)
        if copies.stat().st_uid != os.geteuid():
            raise PermissionError(f"{copies} is another's")
        for other in copies.iterdir():
            if not other.name.startswith(".") and time.time() - other.stat().st_mtime > KEPT_SECONDS:
                remove_folder(other)
        with scratch_folder(copies) as scratch:
            work = scratch / self.mark
            work.mkdir()
            for name, ref in self._chunks:
                target = inside(work, name)
                assert target is not None  # a name that the walk of a folder gave
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "ab") as handle:
                    handle.write(_fetch(ref))
            try:
                os.replace(work, copies / self.mark)
            except OSError:
                if not (copies / self.mark).is_dir():  # another worker of this machine was sooner
                    raise


def _fetch(ref: Any) -> bytes:
    import ray

    return ray.get(ref)


def _look(root: Path, within: str) -> tuple[dict[str, int], str]:
    """(name below root → bytes, mark) of the files below root/within; OSError where there is no such folder."""
    files, digest = {}, hashlib.blake2b(digest_size=16)
    base = root / within
    os.stat(base)
    for path in sorted(p for p in base.rglob("*") if p.is_file()):
        name, size = path.relative_to(root).as_posix(), path.stat().st_size
        files[name] = size
        digest.update(f"{name}\0{size}\0".encode())
        if path.suffix == ".json" and size <= TOLD_BY:
            digest.update(path.read_bytes())
    return files, digest.hexdigest()
