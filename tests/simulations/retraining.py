"""How often bad trainings are refused and good ones promoted: `python tests/simulations/retraining.py --worlds 20`.

Each world is generated, a run is trained on the first 80 % of its log, and then `retrain` is asked with the whole of
it, as it is and harmed in three ways. One line a world, and the counts.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

from planted_datasets import as_of_share, half_the_rows, rewritten, shuffled_labels, without_column

from recsys_cli.config import merge, validate
from recsys_cli.live.retrain import retrain
from recsys_cli.settings import Settings
from recsys_cli.world.generate import generate

TREE = {
    "threads": 1,
    "world": {"users": 150, "items": 1000, "days": 10},
    "retrieval": {"als": {"dim": 16, "epochs": 3}},
    "ranking": {"choose": "heavy", "heavy": {"kind": "shared_bottom", "epochs": 3, "hidden": [32]}},
    "tuning": {"budget_seconds": 2},
    "evaluation": {"resamples": 100},
}


def settings_of(seed: int, data: Path, artifacts: Path) -> Settings:
    tree = merge(Settings().model_dump(mode="json"), TREE)
    return validate(Settings, tree | {"seed": seed, "paths": {"data": str(data), "artifacts": str(artifacts)}})


def one_world(seed: int, folder: Path) -> dict[str, tuple[bool, str]]:
    """Case → whether the outcome is the wanted one, and the reason that was given."""
    artifacts = folder / "artifacts"
    first = settings_of(seed, folder / "whole", artifacts)
    generate(first.world, seed, folder / "whole", threads=1)
    rewritten(folder / "whole", folder / "before", as_of_share(0.8))
    base = retrain(settings_of(seed, folder / "before", artifacts))
    out = {"first run": (base.outcome == "promoted", base.reason)}
    harms = {
        "shuffled labels": shuffled_labels(seed), "a column gone": without_column("items", "topics"),
        "half the data": half_the_rows,
    }
    for name, change in harms.items():
        data = rewritten(folder / "whole", folder / name.replace(" ", "-"), change)
        done = retrain(settings_of(seed, data, artifacts))
        out[name] = (done.outcome == "refused", done.reason)
    done = retrain(settings_of(seed, folder / "whole", artifacts))
    out["good"] = (done.outcome == "promoted", done.reason)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first world")
    asked = parser.parse_args()
    right: dict[str, int] = {}
    for seed in range(asked.first, asked.first + asked.worlds):
        folder = Path(tempfile.mkdtemp(prefix="recsys-retraining-"))
        started = time.process_time()
        try:
            found = one_world(seed, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for name, (as_wanted, _) in found.items():
            right[name] = right.get(name, 0) + as_wanted
        told = "; ".join(f"{n}: {'ok' if ok else 'WRONG'} ({why})" for n, (ok, why) in found.items())
        print(f"world {seed}, {time.process_time() - started:.0f} s: {told}", flush=True)
    for name, count in right.items():
        print(f"{name}: {count} of {asked.worlds}")


if __name__ == "__main__":
    main()
