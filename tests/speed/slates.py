"""What slates cost, in a running process and cold, and whether another checkout gives the same ones.

    cd PROJECT && python CHECKOUT/tests/speed/slates.py                       # of the run in use under artifacts/
    cd PROJECT && python CHECKOUT/tests/speed/slates.py --against OTHER       # beside another checkout, in turns

Milliseconds are of the processor, on one thread (a busy machine waits, but computes the same), lower quartile, median
and 99th percentile; cold ones are those of whole processes, whose modules are compiled to bytecode as those of an
installed package are. With --against every figure stands beside the other
checkout's, which is measured in turns with this one, and it is said how many slates have other items and by how much
the scores differ at most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = """
import io, sys, time, json, numpy as np
from recsys_cli import RecommendationEngine
from recsys_cli.progress import Progress
engine = RecommendationEngine.load("artifacts")
people = len(engine.bundle.user_ids)
users = np.random.default_rng(0).integers(0, people, 20 + int(sys.argv[2])).astype(np.int32)
ids = engine.bundle.user_ids.external(users)
def each(ask, given):
    times = []
    for one in given:
        start = time.process_time_ns()
        ask(one)
        times.append((time.process_time_ns() - start) / 1e6)
    return np.quantile(times[20:], [0.25, 0.5, 0.99]).tolist()
def whole(work):
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3 / len(some)
some = np.arange(min(people, int(sys.argv[2])), dtype=np.int32)
out = {
    "slate": each(lambda user: engine.slates(np.array([user])), users),
    "recommend": each(engine.recommend, ids),
    "slates of many, a user": [whole(lambda: engine.slates(some))],
    "rows of many, a user": [whole(lambda: engine.write_slates(
        engine.bundle.user_ids.external(some), io.BytesIO(), "jsonl", progress=Progress()))],
}
many = engine.slates(some)
np.savez(sys.argv[1], items=many.items, score=many.scores.get("utility"))
print(json.dumps(out))
"""


def child(checkout: Path, *arguments: str) -> tuple[str, float, float]:
    """(output, seconds of the processor, peak MiB) of a process that takes the package from a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPYCACHEPREFIX"] = os.path.join(tempfile.gettempdir(), "recsys-speed-bytecode")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{checkout}: {' '.join(arguments)[:80]} failed")
    return output, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def measure(checkout: Path, slates: Path, users: int) -> dict[str, list[float]]:
    """Figure → its values, of one round."""
    out = json.loads(child(checkout, "-c", INSIDE, str(slates), str(users))[0])
    user = json.loads(
        child(checkout, "-c", "import json; from recsys_cli import RecommendationEngine as E; "
              "print(json.dumps(E.load('artifacts').bundle.user_ids.external([0])[0]))")[0]
    )
    _, seconds, peak = child(checkout, "-m", "recsys_cli", "recommend", "--user", str(user))
    out |= {"recommend, cold": [seconds * 1e3], "its peak memory, MiB": [peak]}
    out["--help"] = [child(checkout, "-m", "recsys_cli", "--help")[1] * 1e3]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3, help="turns, of which the least counts")
    parser.add_argument("--users", type=int, default=200, help="users that are asked for")
    arguments = parser.parse_args()
    checkouts = [ROOT] if arguments.against is None else [arguments.against.resolve(), ROOT]
    best: list[dict[str, list[float]]] = [{} for _ in checkouts]
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{i}.npz" for i in range(len(checkouts))]
        for _ in range(arguments.rounds):
            for held, checkout, file in zip(best, checkouts, files, strict=True):
                for figure, values in measure(checkout, file, arguments.users).items():
                    held[figure] = [min(pair) for pair in zip(values, held.get(figure, values), strict=True)]
        for figure in best[0]:
            print(f"{figure:<24}" + " → ".join(" ".join(f"{v:8.2f}" for v in held[figure]) for held in best))
        if len(files) > 1:
            compare(*files)


def compare(before: Path, after: Path) -> None:
    import numpy as np

    old, new = np.load(before), np.load(after)
    same = (old["items"] == new["items"]).all(axis=1)
    apart = np.abs(old["score"] - new["score"])[same].max(initial=0)
    print(f"{int((~same).sum())} of {len(same)} slates have other items; scores of the others differ by {apart:.1e}")


if __name__ == "__main__":
    main()
