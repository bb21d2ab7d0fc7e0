"""A server killed a hundred times under load: nothing acknowledged may be lost or there twice.

    python tests/simulations/kills.py --artifacts artifacts --data data/world --kills 100

Works on a copy of the run. Every third kill comes while the server stops in order. At the end the log is held against
what was acknowledged, and the state that the server kept against a replay of the log.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "serving"))

from kills import kill_again_and_again

from recsys_cli.data.dataset import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--data", default="data/world")
    parser.add_argument("--kills", type=int, default=100)
    args = parser.parse_args()
    dataset = Dataset.open(args.data)
    users = [str(u) for u in dataset.table("users")["user_id"].to_list()]
    items = [str(i) for i in dataset.table("items")["item_id"].to_list()]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "artifacts").mkdir()
        for name in ("runs", "current"):
            origin = Path(args.artifacts) / name
            (shutil.copytree if origin.is_dir() else shutil.copy)(origin, folder / "artifacts" / name)
        (folder / "recsys.yaml").write_text(f"paths: {{data: {Path(args.data).resolve()}, artifacts: artifacts}}\n")
        began = time.monotonic()
        told = kill_again_and_again(
            folder, args.kills, users, items, options=("--set", "serving.warm_up=0"),
            told=lambda text: print(text, flush=True),
        )
        figures = ", ".join(f"{number:,} {name}" for name, number in told.items())
        print(f"{args.kills} kills in {time.monotonic() - began:.0f} s: {figures}; none lost, none twice")


if __name__ == "__main__":
    main()
