"""Whom what items say helps: recall of sources on all items and among those that hardly anybody turned to.

    python tests/simulations/semantic_items.py --config configs/kuairand.yaml [--cold 5] [--users 1500]

Sources are fitted on everything before the test window. Lists are of all items that may be proposed, and of the cold
ones alone (at most --cold interactions before the test window); what people turned to in the test window and had not
before is to be found. Intervals are 95 %, by resampling users; the last column is the gain over content, user by user.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from recsys_cli.config import parse_override, put, resolve
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.state import State
from recsys_cli.data.windows.split import make_split
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.truth import find_truth, sample_users
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.settings import Settings

MODELS = {
    "popularity": {"kind": "popularity"},
    "item_neighbours": {"kind": "item_neighbours"},
    "sasrec": {"kind": "sasrec", "dim": 64, "layers": 1, "history": 50, "epochs": 4},
    "content": {"kind": "content"},
    "semantic": {"kind": "semantic"},
    "semantic, codes": {"kind": "semantic", "code_weight": 1.0},
    "generative": {"kind": "generative"},
    "semantic, hashed": {"kind": "semantic", "encoder": "hashed"},
}
LENGTH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--cold", type=int, default=5)
    parser.add_argument("--users", type=int, default=1500)
    parser.add_argument("--model", action="append", choices=list(MODELS))
    given = parser.parse_args()
    layer: dict = {}
    for text in given.set:
        put(layer, *parse_override(text))
    settings = resolve(Settings, file=given.config, layers=[("flag", layer)]).config
    dataset = Dataset.open(settings.paths.data)
    split = make_split(settings.windows, dataset, seed=settings.seed)
    dataset, moment = dataset.with_log(split.log), split.windows.test_start
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    past = split.log.window(end=moment)
    state = State.build(dataset.catalogue, past, moment, **edges)
    window = Window(dataset, dataset.catalogue, past, moment, state, settings.seed)
    truth = find_truth(split.log, state, moment, split.windows.end)
    cold = np.flatnonzero((state.interactions <= given.cold) & state.available)
    wanted = truth.only(np.isin(truth.relevant.values, cold))
    of_cold = sample_users(wanted, given.users, settings.seed)
    whole = sample_users(truth, given.users, settings.seed)
    listed = int(state.available.sum())
    print(f"{len(whole.users)} users; {len(cold)} cold items of {listed}, {len(of_cold.users)} users")
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, config in MODELS.items():
        if given.model and name not in given.model:
            continue
        source = SOURCES[config["kind"]](SOURCES[config["kind"]].config_type.model_validate(config))
        if lack := source.missing(window):
            print(f"{name}: {lack}")
            continue
        start = time.process_time()
        source.fit(window, Progress())
        seconds = time.process_time() - start
        found[name] = {"all": _recall(source, state, whole, None), "cold": _recall(source, state, of_cold, cold)}
        print(f"{name}: fitted in {seconds:.1f} processor seconds", flush=True)
    for side in ("all", "cold"):
        _show(side, {name: values[side] for name, values in found.items()})


def _recall(source, state: State, truth, only: np.ndarray | None) -> np.ndarray:
    """float64[U] recall at LENGTH, of lists of all items or of some."""
    out, n = [], state.catalogue.n_items
    allowed = np.ones(n + 1, bool)
    if only is not None:
        allowed = np.isin(np.arange(n + 1), only)
    allowed[n] = False
    for start in range(0, len(truth.users), 256):
        part = truth.take(np.arange(start, min(start + 256, len(truth.users))))
        items = source.retrieve(state, part.users, n)[0]
        keep = allowed[items] & (items >= 0)
        order = np.argsort(~keep, axis=1, kind="stable")[:, :LENGTH]
        items = np.where(np.take_along_axis(keep, order, 1), np.take_along_axis(items, order, 1), -1)
        out.append(rm.recall(rm.hits(items, part.relevant), part.relevant.lengths, LENGTH))
    return np.concatenate(out)


def _show(side: str, found: dict[str, np.ndarray]) -> None:
    base = found.get("content")
    print(f"\n{side:<18} recall@{LENGTH}  [95 %]            gain over content")
    for name, values in found.items():
        less = "" if base is None or name == "content" else _told(values - base, "+.4f")
        print(f"{name:<18} {_told(values, '.4f')}  {less}")


def _told(values: np.ndarray, form: str) -> str:
    value, low, high = (float(f[0]) for f in bootstrap_means(values[:, None]))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    main()
