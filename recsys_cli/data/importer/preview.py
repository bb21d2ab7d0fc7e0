"""The first rows of every part of a mapping as an import would read them; nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from recsys_cli.data.importer.batches import LINE
from recsys_cli.data.importer.databases import fetched
from recsys_cli.data.importer.keys import with_text_ids
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.run import Import
from recsys_cli.data.importer.values import IdsAreText
from recsys_cli.data.schema import COLUMNS
from recsys_cli.errors import DataError
from recsys_cli.files import scratch_folder
from recsys_cli.progress import Progress, Step

DATABASE_ROWS = 1000


def preview(mapping: Mapping, source: Path, rows: int = 5) -> dict[str, Any]:
    """{"tables": [{"table", "file", "rows"}], "rejects": [...], "notes": [...]} of the first block of each part.

    Raises DataError and ConfigError as an import does; ids are not checked against each other.
    """
    if not source.is_dir():
        raise DataError(f"no folder {source}", "give the folder of the source files with --from")
    notes: list[str] = []
    with fetched(mapping, source, limit=DATABASE_ROWS) as mapping:
        while True:
            try:
                found = _look(mapping, source, rows)
                return found | {"notes": [*notes, *found["notes"]]}
            except IdsAreText as error:
                mapping, note = with_text_ids(mapping, error)
                notes.append(note)


def _look(mapping: Mapping, source: Path, rows: int) -> dict[str, Any]:
    tables = []
    with scratch_folder() as folder:
        job = Import(mapping, source, Path(folder), Progress())
        try:
            for table in COLUMNS:
                for part, files in job.parts[table]:
                    for batch, frame in job.batches(table, part, files[:1], Step()):
                        shown = frame.drop(LINE).head(rows)
                        tables.append({"table": table, "file": batch.file.name, "rows": _plain(shown)})
                        break
        finally:
            job.close()
    rejects = [
        {"table": r.table, "reason": r.reason, "count": r.count, "file": r.file, "line": r.line, "value": r.value}
        for r in job.rejects.reasons
    ]
    return {"name": mapping.name, "tables": tables, "rejects": rejects, "notes": job.told.lines}


def _plain(frame: pl.DataFrame) -> list[dict]:
    """Rows with times as ISO 8601 texts."""
    times = [c for c, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    return frame.with_columns(pl.col(c).dt.to_string("iso:strict") for c in times).to_dicts()
