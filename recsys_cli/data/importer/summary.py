"""What an import tells at its end."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from recsys_cli.data.importer.rejects import Rejects
from recsys_cli.data.importer.told import Told
from recsys_cli.data.schema import DatasetManifest


def summary(rejects: Rejects, told: Told, manifest: DatasetManifest, target: Path, seconds: float) -> dict:
    """Counts a table, actions, notes and reasons of refused rows; `read` = `rows` + `rejected` + `merged` - `added`."""
    rows = {}
    for name, info in manifest.tables.items():
        rejected = rejects.count(name)
        rows[name] = {
            "read": rejects.read.get(name, 0),
            "rejected": rejected,
            "merged": told.merged.get(name, 0),
            "added": told.added.get(name, 0),
            "rows": info.rows,
        }
    return {
        "dataset": str(target),
        "name": manifest.name,
        "digest": manifest.digest,
        "tables": rows,
        "actions": {a: info.count for a, info in manifest.actions.items()},
        "repeats_left_out": sum(told.merged.values()),
        "notes": told.lines,
        "rejects": [asdict(r) for r in rejects.reasons],
        "seconds": round(seconds, 3),
    }
