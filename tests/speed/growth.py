"""How time and memory grow with the world: generate, train, recommend and evaluate at several sizes, and the exponents.

    python tests/speed/growth.py [--sizes 1000 10000 100000] [--impressions 20] [--steps generate-data train]

A world of n users and n items with so many impressions a user, without truth. Prints seconds of the processor (which
other work on the machine changes less than seconds on the clock), peak memory, and the slope of the logarithm of each
over that of n by least squares: 1 is linear, and above 1.2 is marked, since n log n grows by about 1.1 here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measured import Measured, recsys

STEPS = {
    "generate-data": ("generate-data",), "train": ("train",), "recommend": ("recommend", "--user", "1"),
    "evaluate": ("evaluate",),
}
STEEP = 1.2


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of ln(values) over ln(sizes) by least squares; NaN of a single size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if len(sizes) > 1 else float("nan")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--impressions", type=int, default=20)
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    asked = parser.parse_args(argv)
    found: dict[str, list[Measured]] = {step: [] for step in asked.steps}
    for size in asked.sizes:
        settings = (
            f"world.users={size}", f"world.items={size}", f"world.impressions_per_user={asked.impressions}",
            "world.truth=false",
        )
        with tempfile.TemporaryDirectory() as name:
            for step in asked.steps:
                one = recsys(Path(name), *STEPS[step], settings=settings if step == "generate-data" else ())
                found[step].append(one)
                print(
                    f"{size:>9,} {step:<14} {one.processor:8.1f} s of the processor, {one.seconds:8.1f} s, "
                    f"{one.gib:6.2f} GiB", flush=True,
                )
    for step, rows in found.items():
        time, memory = (exponent(asked.sizes, [getattr(r, what) for r in rows]) for what in ("processor", "gib"))
        print(f"{step:<14} time n^{time:.2f}, memory n^{memory:.2f}{'   STEEP' if time > STEEP else ''}")


if __name__ == "__main__":
    main(sys.argv[1:])
