"""How fast every kind of heavy ranker scores 500 candidates of 100 features on one core, and what int8 changes.

    python tests/speed/rankers.py [--kind NAME]

Prints the median milliseconds of a request in float32 and, for networks, in int8 (of five rounds the fastest: other
work on the machine only adds), the size of the graph, and the largest change of a probability. Exits with 1 where
float32 takes more than 3 ms.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import typing
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ranking"))

from recsys_cli.benchmark.impressions import request_ms
from recsys_cli.features.table import FeatureTable
from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.registry import HeavyRankerConfig, load_ranker
from recsys_cli.ranking.serving.quantise import quantise
from recsys_cli.ranking.serving.served import GRAPH_FILE, ServedRanker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import ITEMS, SPAN, make_behaviour

ROWS, FEATURES, MILLISECONDS, ROUNDS = 500, 100, 3.0, 5
STAGES = {"esmm": {"behind": ["long_view", "like"]}}
"""Settings without which a kind cannot learn from these rows."""
ACTIONS = ("click", "long_view", "like", "profile_click", "follow", "reply", "repost", "hide")


def table(n: int, seed: int) -> FeatureTable:
    """Requests of ten rows, 92 numbers and eight categories, eight actions that follow them."""
    rng = np.random.default_rng(seed)
    categories = {f"category_{j}": 50 for j in range(8)}
    numbers = rng.normal(0, 1, (n, FEATURES - 8)).astype(np.float32)
    codes = rng.integers(0, 50, (n, 8)).astype(np.float32)
    truth = np.random.default_rng(0).normal(0, 0.3, (FEATURES - 8, len(ACTIONS)))
    p = 1 / (1 + np.exp(1 - numbers @ truth))
    return FeatureTable(
        np.column_stack([numbers, codes]), (*(f"number_{j}" for j in range(FEATURES - 8)), *categories), categories,
        {a: rng.random(n) < p[:, t] for t, a in enumerate(ACTIONS)}, rng.gamma(2, 5, n).astype(np.float32),
        (np.arange(n) // 10 % 97).astype(np.int32), rng.integers(0, ITEMS, n).astype(np.int32),
        np.arange(n) // 10 * (SPAN // n * 10), behaviour=make_behaviour(),
    )


def milliseconds(served: ServedRanker, asked: FeatureTable) -> float:
    return min(request_ms(served, asked) for _ in range(ROUNDS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", help="measure this kind alone")
    wanted = parser.parse_args().kind
    torch.set_num_threads(1)
    train, valid, asked = table(20_000, 1), table(4_000, 2), table(ROWS, 3)
    slow = []
    print(f"{'kind':<16}{'float32 ms':>12}{'KiB':>8}{'int8 ms':>12}{'KiB':>8}{'largest change':>16}")
    for config in typing.get_args(typing.get_args(HeavyRankerConfig)[0]):
        kind = config.model_fields["kind"].default
        if wanted not in (None, kind):
            continue
        network = issubclass(config, HeavyNetworkConfig)
        settings = {"epochs": 1, "min_steps": 0} | STAGES.get(kind, {}) if network else {}
        ranker = fit_heavy(config(**settings), train, valid, seed=0, threads=1)
        with tempfile.TemporaryDirectory() as folder:
            ranker.export(folder)
            size, served = (Path(folder) / GRAPH_FILE).stat().st_size, load_ranker(folder, threads=1)
            ms, before = milliseconds(served, asked), served.predict(asked.values, asked.entities)
            row = f"{kind:<16}{ms:>12.2f}{size / 1024:>8.0f}"
            if network:
                quantise(folder, train)
                size, served = (Path(folder) / GRAPH_FILE).stat().st_size, load_ranker(folder, threads=1)
                after = served.predict(asked.values, asked.entities)
                change = max(float(np.abs(after[a] - before[a]).max()) for a in ranker.tasks)
                row += f"{milliseconds(served, asked):>12.2f}{size / 1024:>8.0f}{change:>16.4f}"
            print(row + ("   MISSED" if ms > MILLISECONDS else ""), flush=True)
            if ms > MILLISECONDS:
                slow.append(kind)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
