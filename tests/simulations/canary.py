"""How often a canary rolls back a run that is as good, and after how many answers one that people like less.

`python tests/simulations/canary.py --times 50`: people with tastes of their own use a site whose candidate is clicked
on less often by the shares of --worse. One line each: outcomes, answers of the candidate, people who saw it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

from live_people import Site

from recsys_cli.live.canary import NEW, canary
from recsys_cli.live.config import CanaryConfig


def once(seed: int, worse: float, config: CanaryConfig) -> tuple[str, int, float]:
    """(what became of it, answers of the candidate, share of the people who saw it)."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-canary-"))
    site, steps = Site(folder, seed, worse), [0]

    def sleep(_: float) -> None:
        steps[0] += 1
        site.step()

    try:
        gate = canary(folder, "r", config, ["click"], ["hide"], sleep=sleep, clock=lambda: float(steps[0]))
    finally:
        site.close()
        shutil.rmtree(folder, ignore_errors=True)
    at_once = "at once" if ", z " in gate.measured else "at the end"
    outcome = "promoted" if gate.passed else f"rolled back {at_once}"
    return outcome, site.answers.get(NEW, 0), len(site.exposed) / len(site.taste)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--worse", type=float, nargs="*", default=[0.0, 0.1, 0.2, 0.4])
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--answers", type=int, default=2_000)
    asked = parser.parse_args()
    config = CanaryConfig(share=asked.share, most_requests=asked.answers, minutes=1_000)
    for worse in asked.worse:
        started = time.process_time()
        found = [once(seed, worse, config) for seed in range(asked.first, asked.first + asked.times)]
        outcomes = {name: sum(o == name for o, _, _ in found) for name in dict.fromkeys(o for o, _, _ in found)}
        answers = np.array([n for _, n, _ in found])
        seen = max(s for _, _, s in found)
        took = time.process_time() - started
        print(f"clicked on {worse:.0%} less: {outcomes}; answers median {np.median(answers):.0f}, at most "
              f"{answers.max()}; people who saw it at most {seen:.1%} ({took:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
