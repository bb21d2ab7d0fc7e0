"""Files that are never half there: everything is written beside its place and moved in whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import itertools
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from recsys_cli.errors import RecsysError, UsageError

PLACEHOLDERS = (".gitkeep",)
"""Files that keep an empty folder in a repository: nobody minds a dataset beside them, and they stay."""


_HERE = hashlib.blake2b(os.uname().nodename.encode(), digest_size=2).hexdigest()
"""Stands for this machine in the names of temporaries: elsewhere its process ids say nothing."""
_TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{4})-(\d+)-[0-9a-f]{8}\.(tmp|old)")
_swept: set[Path] = set()


def _beside(path: Path) -> Path:
    _sweep(path.parent)
    return path.parent / f".{path.name[:200]}.{_HERE}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"


def _sweep(folder: Path) -> None:
    """Remove what dead processes of this machine left behind in a folder, and put back what they were about to replace;
    once a process and folder."""
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if not found or found[2] != _HERE or _alive(int(found[3])):
                continue
            if entry.stat(follow_symlinks=False).st_uid != os.geteuid():  # another's, in a folder for all
                continue
            place = folder / found[1]
            if found[4] == "old" and not os.path.lexists(place):  # killed between the two steps of `_swap`
                os.replace(entry.path, place)
            elif entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another's
        pass
    return True


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecsysError(
            f"cannot write {path}: {error.strerror or error}",
            "nothing was changed; free some space or choose another place, then run the command again",
        ) from error


def _final(path: Path) -> Path:
    """Where a path leads: links are followed, but not those of /proc, behind which open files and pipes stand."""
    place = Path(os.path.abspath(path))
    for _ in range(40):  # as many as the kernel follows
        place = Path(os.path.realpath(place.parent), place.name)
        if place.is_relative_to("/proc") or not place.is_symlink():
            return place
        place = place.parent / os.readlink(place)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_stream(place: Path) -> bool:
    """Whether something stands at `place` that is written through: a pipe, a device, a file that is open already."""
    return os.path.exists(place) and (place.is_relative_to("/proc") or not stat.S_ISREG(os.stat(place).st_mode))


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that is there while the block runs; where the process is killed, the next one removes it.

    parent: where it lies, the system's folder for temporary files by default.
    """
    import tempfile

    folder = _beside((Path(tempfile.gettempdir()) if parent is None else parent) / "recsys")
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path; move it to `path` when the block ends well, remove it otherwise.

    A link is followed and stays. Into a pipe or a device the content is copied when the block ends well. Raises
    RecsysError where the disk refuses (full, read-only, no such folder); `path` is then as it was.
    """
    path = Path(path)
    with contextlib.ExitStack() as cleanup, _disk_errors(path):
        place = _final(path)
        stream = _is_stream(place)
        if stream:
            temporary = cleanup.enter_context(scratch_folder()) / "output"
        else:
            temporary = _beside(place)
            cleanup.callback(temporary.unlink, missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if stream:
            # never created, never cut off: what was appended to before is appended to
            with open(temporary, "rb") as source, open(os.open(place, os.O_WRONLY | os.O_APPEND), "wb") as target:
                shutil.copyfileobj(source, target)
            return
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, place)


def write_bytes(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_frame(path: str | os.PathLike, write: Callable[..., object], **options: object) -> None:
    """Write a frame of polars whole or not at all, by its `write_parquet` or `write_csv`.

    By way of the memory: what polars writes to a full disk by itself fails with words that do not speak of the disk.
    """
    buffer = io.BytesIO()
    write(buffer, **options)
    write_bytes(path, buffer.getbuffer())


def _nothing(folder: Path) -> Collection[str]:
    return ()


def foreign_files(folder: Path, ours: Callable[[Path], Collection[str]]) -> Iterator[str]:
    """What a folder holds, below it too, that is none of `ours` (names relative to it); links are never ours.

    Names come in order, folder by folder; a missing folder holds nothing. Raises OSError where one cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    if not folder.is_dir():
        return
    mine = set(ours(folder))
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted(files + links):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if relative not in mine or path.is_symlink():
                yield relative


def require_ours(
    path: str | os.PathLike, ours: Callable[[Path], Collection[str]] = _nothing, *, keep: bool = False
) -> None:
    """Raises UsageError naming the first file at `path` that writing a folder there would remove and that is none of
    `ours`; with `keep` such files stay, and only a file in the place of the folder is refused."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file", "name a folder of its own")
    first = next((name for name in foreign_files(path, ours) if name not in PLACEHOLDERS), None)
    if first is not None and not keep:
        raise UsageError(
            f"{path} holds {first}, which no earlier output of this kind put there",
            "name a folder of its own, or move the file away",
        )


def _carry_foreign(place: Path, temporary: Path, ours: Callable[[Path], Collection[str]]) -> None:
    """Give the new folder what is foreign in the old one, before either moves, so that it is lost at no moment."""
    for name in list(foreign_files(place, ours)):
        target = temporary / name
        if os.path.lexists(target):
            raise UsageError(f"{place / name} stands where this command writes, and is not its own", "move it away")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(place / name, target, follow_symlinks=False)
        except OSError:
            if not (place / name).is_file() and not (place / name).is_symlink():
                raise
            shutil.copy2(place / name, target, follow_symlinks=False)


def _swap(new: Path, place: Path) -> None:
    """Put a folder in the place of another, which is then where the new one was, or gone.

    In one step where the file system can exchange two names (renameat2, Linux 3.15); elsewhere in two, between which
    the old one bears a name by which `_sweep` finds it and puts it back.
    """
    if _exchange(new, place):
        return
    old = _beside(place).with_suffix(".old")
    os.replace(place, old)
    try:
        os.replace(new, place)
    except BaseException:
        os.replace(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Whether two names were exchanged; False where this system or the file system cannot."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    sys.audit("os.rename", str(first), str(second), -1, -1)  # as Python's own renames are told of
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if call(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))


@contextlib.contextmanager
def atomic_dir(
    path: str | os.PathLike, *, ours: Callable[[Path], Collection[str]] = _nothing, keep: bool = False
) -> Iterator[Path]:
    """Yield an empty folder beside `path`; move it there when the block ends well, remove it otherwise.

    A folder that is there changes places with the new one in one step and is removed last, so that whoever looks, or
    kills this process, finds the old one or the new one; a link to a folder is followed. ours: folder → files below it
    that an earlier output put there, which alone may be replaced. keep: other files stay where they are instead of
    being refused. Raises UsageError naming the first foreign file, before the block and again after it; RecsysError
    where the disk refuses.
    """
    place = Path(os.path.realpath(path))
    temporary = _beside(place)
    try:
        with _disk_errors(Path(path)):
            require_ours(path, ours, keep=keep)
            temporary.mkdir(parents=True)
            yield temporary
            require_ours(path, ours, keep=keep)
            if place.exists():
                _carry_foreign(place, temporary, ours)
                _swap(temporary, place)
            else:
                os.replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(work: Path, parent: Path, label: str, prepare: Callable[[str], None]) -> Path:
    """Move a finished folder to `parent`/`label`, or `label-2`, `label-3`, … where that is taken, in one step.

    A folder takes the place of none or of an empty one and never of another, however many try at once. prepare: is
    told the name before the step, to write it into the folder; the folder must not be empty. Returns the new place.
    """
    with _disk_errors(parent / label):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        for number in itertools.count(1):
            target = parent / (label if number == 1 else f"{label}-{number}")
            if os.path.lexists(target):
                continue
            prepare(target.name)
            try:
                os.replace(work, target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            else:
                return target


def write_new_folder(parent: Path, label: str, contents: dict[str, bytes]) -> Path:
    """A folder of files by `publish_folder`: `label` below `parent`, with a number behind where that is taken."""
    work = _beside(parent / label)
    try:
        with _disk_errors(parent / label):
            work.mkdir(parents=True)
            for name, content in contents.items():
                (work / name).write_bytes(content)
        return publish_folder(work, parent, label, lambda name: None)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step for whoever looks: it is moved aside first, and swept later if this is cut short."""
    with _disk_errors(folder):
        aside = _beside(folder)
        os.replace(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def held_alone(lock: Path, refusal: RecsysError) -> Iterator[None]:
    """Hold a lock file while the block runs; raises the refusal where another process holds it.

    The file stays: were it removed, one who waits at the removed file and one who makes it anew would both hold a lock.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise refusal from None
        yield


def held_by(lock: Path) -> str | None:
    """What the process that holds a lock file wrote into it ("" for nothing); None where nobody holds it.

    Only a shared lock is asked for, and only for a moment.
    """
    if not lock.is_file():
        return None
    with open(lock) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return handle.read().strip()
        return None


def is_name(name: object) -> bool:
    """Whether a text can name one file or folder in every place: letters, digits, `_`, `-` and `.`, the first of them
    a letter, a digit or `_`, and at most 120 bytes."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) is not None and len(name.encode()) <= 120


def inside(folder: Path, name: str) -> Path | None:
    """The path of a file `name`, a/b/c, below a folder; None where it would lie elsewhere, links followed.

    Such names come from files that anybody may have written.
    """
    if not isinstance(name, str) or "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        return None
    path = folder / name
    return path if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) else None


def file_digest(path: str | os.PathLike) -> str:
    """BLAKE2b-128 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
