"""What an import tells at its end."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_cli.data.schema import DatasetManifest

if TYPE_CHECKING:
    from recsys_cli.data.importer.run import Import


def summary(job: Import, manifest: DatasetManifest, target: Path, seconds: float) -> dict:
    """Counts a table, actions, notes and reasons of refused rows; `read` = `rows` + `rejected` + `merged` - `added`."""
    rows = {}
    for name, info in manifest.tables.items():
        rejected = job.rejects.count(name)
        rows[name] = {
            "read": job.rejects.read.get(name, 0),
            "rejected": rejected,
            "merged": job.told.merged.get(name, 0),
            "added": job.told.added.get(name, 0),
            "rows": info.rows,
        }
    return {
        "dataset": str(target),
        "name": manifest.name,
        "digest": manifest.digest,
        "tables": rows,
        "actions": {a: info.count for a, info in manifest.actions.items()},
        "repeats_left_out": sum(job.told.merged.values()),
        "notes": job.told.lines,
        "rejects": [asdict(r) for r in job.rejects.reasons],
        "seconds": round(seconds, 3),
    }
