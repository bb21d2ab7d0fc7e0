"""How fast, and in how much memory, a log becomes a table of training features.

    recsys generate-data --users 37000 --items 150000 --no-truth --data-dir DIR      # 10 million impressions
    python tests/speed/features.py DIR [all]

Builds what `recsys train` builds by default, the features of the ranker's window (its training and validation rows)
counted over the whole log before each; with "all" those of every impression. Prints rows, columns, seconds, processor
seconds and peak memory (the log and the tables included). Exits with 1 above 3 minutes or 8 GiB.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.features.build import build_table
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.define import create_spec

SECONDS, GIB = 180.0, 8.0


def main(folder: str, rows: str = "window") -> int:
    with PeakMemory() as memory:
        data = Dataset.open(folder)
        log, names = data.log, data.categories
        spec = create_spec(
            FeatureConfig(), data.catalogue, positive=log.positive_actions, negative=log.negative_actions,
            has_dwell=log.dwell is not None, surfaces=names.get("surface", ()), devices=names.get("device", ()),
        )
        edges = {table: data.edges(table) for table in ("follows", "blocks")}
        windows = make_split(WindowsConfig(), data, seed=42).windows
        cuts = [windows.history_end, windows.validation_start, windows.test_start]
        parts = [log] if rows == "all" else [log.window(a, b) for a, b in pairwise(cuts)]
        start, worked = time.perf_counter(), time.process_time()
        tables = [build_table(spec, data.catalogue, log, part, **edges) for part in parts]
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
    gib, size = memory.mib / 1024, sum(t.values.nbytes for t in tables) / 2**30
    print(f"{sum(map(len, tables)):,} of {len(log):,} impressions × {len(spec.names)} features")
    print(f"{seconds:.1f} s ({worked:.1f} s of processors), {gib:.2f} GiB at most, of which the tables {size:.2f}")
    met = seconds <= SECONDS and gib <= GIB
    print(f"at most {SECONDS:.0f} s and {GIB:.0f} GiB: {'met' if met else 'missed'}")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
