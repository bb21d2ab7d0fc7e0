"""Speed and size of the whole loop, each figure beside its limit.

    python tests/speed/loop.py                                   # the default world, in a folder of its own
    python tests/speed/loop.py --kuairand ../shared/data/kuairand
    python tests/speed/loop.py --large                           # 100,000 users, 100 million impressions too

Whole processes are timed from outside; the slate from inside a running process. Run it on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLATE = """
import statistics, time, numpy as np
from recsys_cli import RecommendationEngine
engine = RecommendationEngine.load("artifacts")
users = np.random.default_rng(0).integers(0, len(engine.bundle.user_ids), 300)
times = []
for user in users:
    start = time.perf_counter()
    engine.slates(np.array([user]))
    times.append((time.perf_counter() - start) * 1e3)
print(statistics.median(times[20:]))
"""


def timed(folder: Path, *arguments: str) -> tuple[float, str]:
    """Seconds of a command and its output; stops where it fails."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return seconds, done.stdout


def best(folder: Path, *arguments: str, runs: int = 5) -> float:
    """Median seconds of several runs after a first that warms the disk."""
    timed(folder, *arguments)
    return sorted(timed(folder, *arguments)[0] for _ in range(runs))[runs // 2]


def row(what: str, value: float, unit: str, limit: float, *, least: bool = False) -> None:
    met = value >= limit if least else value <= limit
    bound = "at least" if least else "at most"
    print(f"{what:<58} {value:>12,.2f} {unit:<14} {bound} {limit:,g}{'' if met else '   MISSED'}", flush=True)


def default_world(folder: Path) -> None:
    cli = ("-m", "recsys_cli")
    row("recsys --help", best(folder, *cli, "--help"), "s", 0.25)
    row("recsys generate-data (default world)", best(folder, *cli, "generate-data", runs=3), "s", 3)
    row("recsys train (default world)", timed(folder, *cli, "train", "--quiet")[0], "s", 60)
    row("recsys recommend --user 1 (cold shell)", best(folder, *cli, "recommend", "--user", "1"), "s", 1.0)
    row("a slate in a running process, median", float(timed(folder, "-c", SLATE)[1]), "ms", 5)
    row("recsys evaluate (default world, all test users)", best(folder, *cli, "evaluate", runs=1), "s", 15)
    experiment = str(ROOT / "configs/experiments/diversity.yaml")
    row("recsys ab-test diversity.yaml", timed(folder, *cli, "ab-test", experiment)[0], "s", 60)


def kuairand(folder: Path, source: Path) -> None:
    cli = ("-m", "recsys_cli")
    config = ("-c", str(ROOT / "configs/kuairand.yaml"))
    mapping = str(ROOT / "configs/import/kuairand.yaml")
    row(
        "KuaiRand: import-data",
        timed(folder, *cli, "import-data", mapping, "--from", str(source), "--to", "data/kuairand")[0],
        "s",
        15,
    )
    row("KuaiRand: train", timed(folder, *cli, "train", "--quiet", *config)[0], "s", 240)
    row("KuaiRand: evaluate", timed(folder, *cli, "evaluate", *config)[0], "s", 60)


def large(folder: Path) -> None:
    world = ("--users", "100000", "--items", "1000000", "--shards", "8", "--data-dir", "data/large")
    more = ("--set", "world.impressions_per_user=1010", "--format", "json")
    seconds, output = timed(folder, "-m", "recsys_cli", "generate-data", *world, *more)
    import json

    impressions = json.loads(output)["impressions"]
    row(f"generate-data, {impressions:,} impressions", impressions / seconds, "a second", 500_000, least=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    row("its peak memory", peak, "GiB", 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kuairand", type=Path, help="folder of the KuaiRand slice")
    parser.add_argument("--large", action="store_true", help="also the world of 100 million impressions (7 GB of disk)")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("RECSYS_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # the largest child so far counts for peak memory, so the large world comes first
        if arguments.large:
            large(folder)
        default_world(folder)
        if arguments.kuairand:
            kuairand(folder, arguments.kuairand.resolve())


if __name__ == "__main__":
    main()
