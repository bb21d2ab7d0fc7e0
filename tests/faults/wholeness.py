"""Whether a project folder is whole: nothing of its owner changed, nothing half-written, no rubbish."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from pathlib import Path

import orjson
import polars as pl
from commands import FILES

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.data.validate import validate_dataset

EARLIER = {
    ".json": '{"earlier": 1}', ".csv": "earlier\n1\n", ".html": "<html>earlier</html>", ".yaml": "earlier: 1\n"
}
"""What stands where a command is to write, by the ending of the file."""
VOLATILE = re.compile(r"\d{8}-\d{6}(-\d+)?|[0-9a-f]{12,}|\d{8}(?=\.jsonl)|\d{8}T\d{6}")


def put_earlier(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        if path.suffix == ".parquet":
            pl.DataFrame({"earlier": [1]}).write_parquet(path)
        else:
            path.write_text(EARLIER[path.suffix])


def require_whole(folder: Path, outputs: list[str]) -> None:
    """Every file of the owner is as it was; every dataset, run and output opens and says what it should."""
    for name, text in FILES.items():
        assert (folder / name).read_text() == text, name
    for name in ("data/dataset.json", "artifacts/current", *outputs):
        assert (folder / name).exists(), name
    for manifest in folder.rglob("dataset.json"):
        if not any(part.startswith(".") for part in manifest.relative_to(folder).parts):
            bad = [check for check in validate_dataset(manifest.parent) if not check.ok]
            assert not bad, f"{manifest.parent}: {bad[0]}"
    store = RunStore(folder / "artifacts")
    for run in store.ids():
        store.open(run).verify(everything=True)
    if store.current() is not None:
        store.open()
    if (folder / "events" / "events.db").exists():
        with sqlite3.connect(f"file:{folder}/events/events.db?mode=ro&immutable=1", uri=True) as connection:
            assert connection.execute("pragma quick_check").fetchone() == ("ok",)
    for path in [folder / name for name in outputs] + sorted((folder / "artifacts").rglob("*.json")):
        if path.relative_to(folder).parts[:2] != ("artifacts", "work") and path.is_file():
            require_readable(path)


def require_readable(path: Path) -> None:
    content = path.read_bytes()
    if path.suffix == ".json":
        orjson.loads(content)
    elif path.suffix == ".html":
        assert content.rstrip().endswith(b"</html>"), path
    elif path.suffix == ".parquet":
        pl.read_parquet(io.BytesIO(content))
    elif path.suffix == ".csv":
        assert content.endswith(b"\n") and len({len(row) for row in csv.reader(io.StringIO(content.decode()))}) == 1
    elif path.suffix == ".jsonl":
        for line in content.splitlines():
            json.loads(line)


def names(folder: Path) -> set[str]:
    """Paths below a folder with what differs from call to call (times, digests) blanked."""
    return {VOLATILE.sub("*", path.relative_to(folder).as_posix()) for path in folder.rglob("*")}
