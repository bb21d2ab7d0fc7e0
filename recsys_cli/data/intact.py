"""Whether a dataset still is what was written: its digests against its manifest, before anything is learned from it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import orjson

from recsys_cli.data.dataset import Dataset, table_files
from recsys_cli.data.validate import digest_checks
from recsys_cli.errors import DataError, RecsysError
from recsys_cli.files import write_bytes
from recsys_cli.progress import Progress

NOTES = "intact.json"
"""In an artifacts folder: the files of datasets that were found intact."""


def open_intact(
    data: str | os.PathLike, artifacts: str | os.PathLike | None, progress: Progress | None = None
) -> Dataset:
    """A dataset that still is what was written; raises DataError as `Dataset.open` and `require_intact` do."""
    dataset = Dataset.open(data)
    require_intact(dataset, None if artifacts is None else Path(artifacts) / NOTES, progress)
    return dataset


def require_intact(dataset: Dataset, notes: Path | None, progress: Progress | None = None) -> None:
    """Compare the digest of every table with the manifest's, unless the very files were compared before.

    notes: a file that holds, by dataset digest, the size, moment of change and inode of the files that were found
    intact; where they are the same still, nothing is read. It is written where its folder is there and takes it.
    Raises DataError naming the first table that was altered.
    """
    seen = _files(dataset)
    known = {} if notes is None else _read(notes)
    if known.get(dataset.manifest.digest) == seen:
        return
    for check in digest_checks(dataset.path, progress):
        if not check.ok:
            raise DataError(
                f"{dataset.path}: {check.table}: {check.detail}",
                "import or generate it again; `recsys data validate` tells all that is wrong",
            )
    if notes is None or not notes.parent.is_dir():
        return
    with contextlib.suppress(RecsysError):  # where it cannot be noted, the next command compares again
        write_bytes(notes, orjson.dumps({**known, dataset.manifest.digest: seen}, option=orjson.OPT_INDENT_2))


def _files(dataset: Dataset) -> dict[str, list[int]]:
    """File of the dataset → its size in bytes, moment of change (ns) and inode."""
    found = {}
    for name in dataset.manifest.tables:
        for file in table_files(dataset.path, name):
            stat = file.stat()
            found[str(file.resolve())] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    return found


def _read(notes: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(notes.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
