"""Where the processor time of `recsys simulate` goes, and what 10,000 people over 30 days would take by that.

    python tests/speed/simulation.py --artifacts artifacts --data data/world --days 5

Lives the configured pipeline alone, in one process. Mornings (states and features as of the day) grow with the log,
serving with the requests; both are taken as growing with the people. With two processes serving halves, mornings do
not: each process has its own.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from recsys_cli.data.dataset import Dataset
from recsys_cli.engine import RecommendationEngine
from recsys_cli.experiments.arm_life import ArmLife
from recsys_cli.simulation.config import ScenarioConfig
from recsys_cli.simulation.run import simulate_scenario

PEOPLE, DAYS = 10_000, 30


def timed(spent: Counter, name: str) -> None:
    """Add up the processor time of a method of ArmLife."""
    method = getattr(ArmLife, name)

    def measured(self, *given):
        began = time.process_time()
        found = method(self, *given)
        spent[name] += time.process_time() - began
        if name == "_serve":
            spent["requests"] += len(found[0])
        return found

    setattr(ArmLife, name, measured)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--data", default="data/world")
    parser.add_argument("--days", type=int, default=5)
    args = parser.parse_args()
    spent: Counter = Counter()
    for name in ("_engine_of", "_serve", "live_day"):
        timed(spent, name)
    engine, dataset = RecommendationEngine.load(args.artifacts, threads=1), Dataset.open(args.data)
    config = ScenarioConfig(name="speed", days=args.days, market="own", policies={"configured": {}})
    simulate_scenario(config, {"configured": engine.pipeline}, engine, dataset)
    people = len(dataset.user_ids)
    mornings, serving = spent["_engine_of"], spent["_serve"] - spent["_engine_of"]
    rest = spent["live_day"] - spent["_serve"]
    print(f"{people:,} people, {args.days} days, {spent['requests']:,} requests: mornings {mornings:.1f} s, serving "
          f"{serving:.1f} s ({serving / spent['requests'] * 1000:.2f} ms a request), the rest {rest:.1f} s")
    scale = PEOPLE / people * DAYS / args.days
    both = (mornings + rest) * scale + serving * scale / 2
    print(f"{PEOPLE:,} people, {DAYS} days: {(mornings + serving + rest) * scale / 60:.1f} minutes of one processor, "
          f"{both / 60:.1f} minutes of two processes")
    print(f"peak {peak():.2f} GiB")


def peak() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    main()
