"""Seconds, cores and memory of `recsys train`, and of each of its steps.

    python tests/speed/training.py [--data FOLDER] [--set world.users=5000 …] [--seconds 45] [--gib 6]

Generates the default world (changed by --set) where no dataset is named. Exits with 1 where training takes longer or
more memory than is said. Run it on a machine that does nothing else; seconds of the processor are shown beside, which
other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measured import recsys

from recsys_cli.artifacts.runs import RunStore


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--gib", type=float, default=6.0)
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        place, settings = Path(name), tuple(asked.settings)
        if asked.data is None:
            recsys(place, "generate-data", settings=settings)
        else:
            (place / "data").symlink_to(asked.data.resolve())
        found = recsys(place, "train", settings=settings)
        durations = RunStore(place / "artifacts").open().manifest.durations
    print(
        f"train {found.seconds:.1f} s, {found.processor:.1f} s of the processor, {found.cores:.2f} cores, "
        f"peak {found.gib:.2f} GiB"
    )
    for step, seconds in sorted(durations.items(), key=lambda pair: -pair[1])[:20]:
        print(f"  {step:<46} {seconds:7.1f} s")
    missed = found.seconds > asked.seconds or found.gib > asked.gib
    if missed:
        print(f"MISSED: at most {asked.seconds:g} s and {asked.gib:g} GiB")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
