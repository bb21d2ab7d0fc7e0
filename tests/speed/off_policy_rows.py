"""Processor seconds and memory of `recsys off-policy` over 10 million logged rows of 100 items in 5 places.

    python tests/speed/off_policy_rows.py
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cli.off_policy.config import OffPolicyConfig
from recsys_cli.off_policy.estimate import judge
from recsys_cli.pipeline.config import PipelineConfig

ROWS = 10_000_000


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        log, table = Path(folder, "log.parquet"), Path(folder, "table.csv")
        item = rng.integers(0, 100, ROWS)
        pl.DataFrame({
            "item_id": item, "position": np.tile(np.arange(5), ROWS // 5), "request_id": np.arange(ROWS // 5).repeat(5),
            "user_id": (np.arange(ROWS // 5) // 4).repeat(5), "click": rng.random(ROWS) < 0.001 * item,
            "propensity": np.full(ROWS, 0.01),
        }).write_parquet(log)
        pl.DataFrame({"item_id": np.arange(100), "probability": rng.dirichlet(np.ones(100))}).write_csv(table)
        del item
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        config = OffPolicyConfig.model_validate({"policy": {"kind": "file", "path": str(table)}})
        start, wall = time.process_time(), time.perf_counter()
        document, _ = judge(config, log, Path(folder), PipelineConfig())
        print(f"{document['rows']:,} rows: {time.process_time() - start:.1f} s of processor time, "
              f"{time.perf_counter() - wall:.1f} s, "
              f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most "
              f"({before / 2**20:.2f} GiB before)")


if __name__ == "__main__":
    main()
