"""Metrics of 100,000 users × top 100 from Parquet, beside ranx and ir-measures on the same work.

    python tests/speed/slate_files.py FOLDER [--users 100000] [--k 100] [--only ours|ranx|ir-measures]

Prints processor and wall seconds and the peak of memory of each, in a process of its own. The work of all: read two
Parquet files, and NDCG, recall, precision, reciprocal rank, hit rate and R-precision at 10 and 100. Ours takes
intervals
too (1,000 bootstrap resamples), which the others do not have; `--no-intervals` takes 100 resamples.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

ITEMS, RELEVANT = 50_000, 10
KINDS = {"user_id": object, "item_id": object}
"""What ranx wants ids to be."""


def write(folder: Path, users: int, k: int) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    slates, truth = folder / "slates.parquet", folder / "truth.parquet"
    if not slates.is_file():
        start, step = rng.integers(0, ITEMS, users), 10 * rng.integers(1, 4000, users) + 1  # none twice
        items = (start[:, None] + step[:, None] * np.arange(k)) % ITEMS
        score = np.sort(rng.random((users, k)), axis=1)[:, ::-1]
        pl.DataFrame(
            {"user_id": np.repeat(np.arange(users), k), "item_id": items.ravel(), "score": score.ravel()}
        ).write_parquet(slates)
        place = np.argsort(rng.random((users, k)), axis=1)[:, : RELEVANT // 2]
        found = np.take_along_axis(items, place, 1)
        missed = (start[:, None] + step[:, None] * (k + np.arange(RELEVANT // 2))) % ITEMS
        relevant = np.concatenate([found, missed], axis=1)
        pl.DataFrame(
            {"user_id": np.repeat(np.arange(users), RELEVANT), "item_id": relevant.ravel(),
             "relevance": np.ones(relevant.size, np.int64)}
        ).write_parquet(truth)  # fmt: skip
    return slates, truth


def ours(slates: Path, truth: Path, k: int, resamples: int) -> dict[str, float]:
    from recsys_cli.evaluation.slates.evaluate import evaluate

    report = evaluate(slates, truth, k=(10, k), resamples=resamples)
    return {m: f["value"] for m, f in report.document["systems"][0]["metrics"].items()}


def texts(path: Path, value: str) -> pl.DataFrame:
    return pl.read_parquet(path).select(
        pl.col("user_id").cast(pl.String), pl.col("item_id").cast(pl.String), pl.col(value)
    )


def ranx(slates: Path, truth: Path, k: int) -> dict[str, float]:
    from ranx import Qrels, Run, evaluate

    ids = {"q_id_col": "user_id", "doc_id_col": "item_id"}
    run = Run.from_df(texts(slates, "score").to_pandas().astype(KINDS), **ids)
    qrels = Qrels.from_df(texts(truth, "relevance").to_pandas().astype(KINDS), score_col="relevance", **ids)
    names = [f"{m}@{n}" for m in ("ndcg", "recall", "precision", "mrr", "hit_rate") for n in (10, k)]
    return evaluate(qrels, run, [*names, "r-precision"])


def ir(slates: Path, truth: Path, k: int) -> dict[str, float]:
    import ir_measures
    from ir_measures import RR, P, R, Rprec, Success, nDCG

    names = {"user_id": "query_id", "item_id": "doc_id"}
    run, qrels = (texts(p, v).rename(names).to_pandas() for p, v in ((slates, "score"), (truth, "relevance")))
    wanted = [m @ n for m in (nDCG, R, P, RR, Success) for n in (10, k)]
    return {str(m): v for m, v in ir_measures.calc_aggregate([*wanted, Rprec], qrels, run).items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--only", choices=("ours", "ranx", "ir-measures"))
    parser.add_argument("--no-intervals", action="store_true")
    asked = parser.parse_args()
    slates, truth = write(asked.folder, asked.users, asked.k)
    if asked.only is None:
        for name in ("ours", "ranx", "ir-measures"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name], check=True)
        return
    began, spent = time.perf_counter(), time.process_time()
    if asked.only == "ours":
        figures = ours(slates, truth, asked.k, 100 if asked.no_intervals else 1000)
    else:
        figures = {"ranx": ranx, "ir-measures": ir}[asked.only](slates, truth, asked.k)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{asked.only}: {time.process_time() - spent:.1f} s of processor, {time.perf_counter() - began:.1f} s of wall, "
        f"{peak:.2f} GB; {', '.join(f'{m} {v:.6f}' for m, v in figures.items())}",
        flush=True,
    )


if __name__ == "__main__":
    main()
