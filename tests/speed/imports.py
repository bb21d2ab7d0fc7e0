"""Seconds and memory of importing a log of many rows as CSV and as Parquet; processors tell on a busy machine.

    python tests/speed/imports.py --rows 10000000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

MAPPING = """name: many
impressions:
  files: {file}
  columns: {{user_id: user, item_id: item, timestamp: {{column: time, unit: s}}}}
  actions: {{click: click}}
"""


def write_log(folder: Path, rows: int, users: int, items: int) -> None:
    """`log.csv` and `log.parquet` of the same rows, made in parts of a million."""
    rng = np.random.default_rng(0)
    parts = []
    for start in range(0, rows, 1_000_000):
        n = min(1_000_000, rows - start)
        parts.append(
            pl.DataFrame(
                {
                    "user": rng.integers(0, users, n),
                    "item": (items * rng.random(n) ** 2).astype(np.int64),
                    "time": 1_600_000_000 + np.arange(start, start + n),
                    "click": rng.integers(0, 2, n),
                }
            )
        )
    frame = pl.concat(parts)
    frame.write_csv(folder / "log.csv")
    frame.write_parquet(folder / "log.parquet")


def measure(folder: Path, file: str) -> tuple[float, float, float]:
    """(seconds, seconds of processors, peak MiB so far) of one import in a process of its own."""
    (folder / "map.yaml").write_text(MAPPING.format(file=file))
    command = ["import-data", str(folder / "map.yaml"), "--from", str(folder), "--to", str(folder / "to"), "-q"]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "recsys_cli", *command], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, busy, after.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder, options.rows, options.users, options.items)
        for file in ("log.parquet", "log.csv"):
            wall, busy, memory = measure(folder, file)
            told = f"{wall:.1f} s ({busy:.1f} s of processors), at most {memory:,.0f} MiB"
            print(f"{file}: {options.rows:,} rows in {told}")


if __name__ == "__main__":
    main()
