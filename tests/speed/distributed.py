"""What a cluster costs beside one machine, and what many users would take, of the run in use under artifacts/.

    cd PROJECT && python CHECKOUT/tests/speed/distributed.py                   # local on 2 threads beside 1 and 2 nodes
    cd PROJECT && python CHECKOUT/tests/speed/distributed.py --price 0.04      # of a core an hour, any currency

Nodes are machines of one core that run here (`ray.cluster_utils.Cluster`). Every way makes the slates of the same
people and the evaluation, in turns, the median of which is told: seconds by the clock, which a busy machine makes
longer for all of them, and seconds of the processor of all processes, Ray's own among them. Weak scaling gives two
nodes twice the people. From the processor's milliseconds a user follows what 100 million would take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
}

import ray
from ray.cluster_utils import Cluster as Machines

from recsys_cli.cluster import Here, RayConfig, tasks_of
from recsys_cli.data.dataset import Dataset
from recsys_cli.distributed.slates import write_slates_by_tasks
from recsys_cli.engine import RecommendationEngine
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.evaluation.offline import evaluate
from recsys_cli.progress import Progress

PEOPLE = 100_000_000
TICK = os.sysconf("SC_CLK_TCK")


def processor(folder: Path) -> float:
    """Seconds of this process and of everything that belongs to clusters whose files lie below the folder."""
    total = time.process_time()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int(place.name) == os.getpid() or str(folder).encode() not in (place / "environ").read_bytes():
                continue
            user, system = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / TICK
        except (OSError, ValueError):
            continue
    return total


def timed(work: Callable[[], object], folder: Path) -> tuple[float, float]:
    """(seconds by the clock, seconds of the processor)."""
    spent, start = processor(folder), time.perf_counter()
    work()
    found = time.perf_counter() - start, processor(folder) - spent
    print(".", end="", file=sys.stderr, flush=True)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--artifacts", default="artifacts")
    options.add_argument("--data", default="data/world")
    options.add_argument("--times", type=int, default=4, help="how often everybody is asked for")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--price", type=float, default=0.04, help="of a core an hour")
    asked = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="recsys-speed-"))
    os.environ["RECSYS_SPEED"] = str(folder)
    engine = RecommendationEngine.load(asked.artifacts, threads=2)
    measured = RecommendationEngine.load(asked.artifacts, threads=2, measured=True)
    dataset, progress = Dataset.open(asked.data), Progress()
    everybody = engine.bundle.user_ids.external(list(range(len(engine.bundle.user_ids)))) * asked.times

    def ways(ids: list, tasks: object) -> dict[str, Callable[[], object]]:
        target, config = folder / "slates.csv", EvaluationConfig()
        write = (
            (lambda: engine.write_slates(ids, target, "csv", progress=progress)) if isinstance(tasks, Here)
            else (lambda: write_slates_by_tasks(tasks, engine, ids, target, "csv", progress=progress))
        )
        return {"slates": write, "evaluation": lambda: evaluate(measured, dataset, config, tasks=tasks)}

    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(asked.turns):
        for what, work in ways(everybody, Here()).items():
            found.setdefault((what, "local, 2 threads"), []).append(timed(work, folder))
        for nodes in (1, 2):
            machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False,
                                                                      "object_store_memory": 2**27})
            for _ in range(nodes - 1):
                machines.add_node(num_cpus=1, object_store_memory=2**27)
            ray.init(address=machines.address, log_to_driver=False, logging_level="ERROR")
            with tasks_of("ray", RayConfig(), 1, progress) as tasks:
                for what, work in ways(everybody, tasks).items():
                    # the first opens the run on every worker
                    for state in ("cold", "warm"):
                        found.setdefault((what, f"{nodes} node{'s' * (nodes > 1)}, {state}"), []).append(
                            timed(work, folder))
                if nodes == 2:
                    work = ways(everybody * 2, tasks)["slates"]
                    found.setdefault(("slates", "2 nodes, twice the people"), []).append(timed(work, folder))
            ray.shutdown()
            machines.shutdown()
    told = {key: tuple(statistics.median(run[i] for run in runs) for i in (0, 1)) for key, runs in found.items()}
    for (what, way), (clock, spent) in told.items():
        base = told[what, "local, 2 threads"]
        print(f"{what:11s} {way:26s} {clock:7.2f} s by the clock ({clock / base[0]:.2f}×), "
              f"{spent:7.2f} s of the processor ({spent / base[1]:.2f}×)")
    unit = told["slates", "2 nodes, warm"][1] / len(everybody)
    size = (folder / "slates.csv").stat().st_size / (2 * len(everybody))
    hours = PEOPLE * unit / 3600
    print(f"{unit * 1e3:.3f} ms of the processor and {size:,.0f} bytes of CSV a user: {PEOPLE:,} users take "
          f"{hours:,.0f} core hours ({hours * asked.price:,.0f} at {asked.price:g} each), "
          f"{hours / 1000:.2f} h on 1,000 cores, and {PEOPLE * size / 1e9:,.0f} GB")


if __name__ == "__main__":
    main()
