"""Lists of two runs of different data on one window, by the ids of their owner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys_cli.evaluation.batch_lists import Served
from recsys_cli.evaluation.offline import sample_users
from recsys_cli.evaluation.slates import metrics as of_slates
from recsys_cli.evaluation.slates.evaluate import measure
from recsys_cli.evaluation.slates.of_dataset import Ground

if TYPE_CHECKING:
    from recsys_cli.artifacts.runs import RunManifest
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.settings import Settings

METRICS = ("ndcg", "recall", "coverage", "unsafe", "diversity")


def half_to_measure(manifest: RunManifest, start: int) -> bool | None:
    """Which half of a run knows nothing of what happened from `start` (µs) on: the served one (False), the measured
    one (True), or neither (None)."""
    if manifest.models_end <= start:
        return False
    if not manifest.final and manifest.windows.test_start <= start:
        return True
    return None


def compared(
    engines: dict[str, RecommendationEngine], settings: Settings, users: int | None, k: int = 10
) -> tuple[dict[str, Any], dict[str, float]]:
    """The report of several runs' lists on the newest window, that of the last one's data, and the seconds of
    processor time that each took a user. Raises DataError where nothing is to be found."""
    ground = Ground.of(settings, list(engines.values())[-1])
    ground = replace(ground, truth=sample_users(ground.truth, users, settings.seed))
    width = min(k, ground.state.catalogue.n_items)
    wanted = of_slates.parse(METRICS, [width])
    frames, seconds = {}, {}
    for name, engine in engines.items():
        frames[name], seconds[name] = lists_by_id(engine, ground, width)
    judged = ground.pack(frames, width)
    report = measure(
        judged, ground.facts(judged), wanted, resamples=settings.evaluation.resamples, seed=settings.seed
    )
    return report.document, seconds


def lists_by_id(engine: RecommendationEngine, ground: Ground, width: int) -> tuple[pl.DataFrame, float]:
    """What a run would have served the test users at the start of the window: rows of user, item and rank, and the
    seconds of processor time of each user's list.

    The run's state is brought to that moment by the rows of the new data about whom and what it knows.
    """
    dataset, bundle, split = ground.dataset, engine.bundle, ground.split
    log = in_vocabulary(bundle, dataset, split.log)
    edges = {table: edges_in_vocabulary(bundle, dataset, table) for table in ("follows", "blocks")}
    past = engine.as_of(log, split.windows.test_start, **edges)
    ids = dataset.user_ids.external(ground.truth.users)
    users = bundle.user_ids.positions(ids)
    slots = engine.pipeline.slate_size
    served = Served.empty(len(users), max(width, slots), slots)
    size = engine.pipeline.batch_size * engine.threads
    past.slates(users[:1], keep_sourced=True)  # what is loaded on first use is nobody's time
    start = time.process_time()
    for first in range(0, len(users), size):
        places = np.arange(first, min(first + size, len(users)))
        served.put(places, Served.of(past.slates(users[places], keep_sourced=True), max(width, slots), slots))
    seconds = (time.process_time() - start) / max(len(users), 1)
    row, slot = np.nonzero(served.lists[:, :width] >= 0)
    items = bundle.item_ids.external(served.lists[row, slot])
    known = ground.frame(ground.truth.users[:1], np.zeros(1, np.int32))
    owners = pl.Series(ids)
    frame = pl.DataFrame({
        "user": owners.gather(row).cast(known.schema["user"]),
        "item": pl.Series(items).cast(known.schema["item"]), "rank": pl.Series(slot + 1.0),
    })
    return frame, seconds


def in_vocabulary(bundle: Bundle, dataset: Dataset, log: Log) -> Log:
    """A log of a dataset in the positions and codes of a bundle; rows about strangers are left out."""
    user = _map(dataset.user_ids, bundle.user_ids)[log.user]
    item = _map(dataset.item_ids, bundle.item_ids)[log.item]
    keep = (user >= 0) & (item >= 0)
    names, categories = bundle.catalogue.names, dataset.categories
    out = replace(log.take(keep), user=user[keep], item=item[keep], _cache={})
    changed: dict[str, Any] = {}
    for name in ("surface", "device"):
        codes = getattr(out, name)
        if codes is not None and name in categories:
            changed[name] = _codes(categories[name], names.get(name, ()))[codes]
    context = {}
    for name, values in out.context.items():
        key = f"impression.{name}"
        coded = np.issubdtype(values.dtype, np.integer) and key in categories
        context[name] = _codes(categories[key], names.get(key, ()), np.int32)[values] if coded else values
    return replace(out, context=context, _cache={}, **changed)


def edges_in_vocabulary(bundle: Bundle, dataset: Dataset, table: str) -> dict[str, np.ndarray] | None:
    """`Dataset.edges` in the positions of a bundle."""
    edges = dataset.edges(table)
    if edges is None:
        return None
    source = _map(dataset.user_ids, bundle.user_ids)[edges["from"]]
    target = _map(dataset.author_ids, bundle.author_ids)[edges["to"]]
    keep = (source >= 0) & (target >= 0)
    return {name: values[keep] for name, values in (edges | {"from": source, "to": target}).items()}


def _map(theirs, ours) -> np.ndarray:
    """int32[n + 1]: place in one vocabulary → place in another, -1 unknown; the last is for -1."""
    found = ours.positions(theirs.external(np.arange(len(theirs)))) if len(theirs) else np.zeros(0, np.int32)
    return np.append(found, -1).astype(np.int32)


def _codes(theirs: Sequence[str], ours: Sequence[str], kind: type = np.int16) -> np.ndarray:
    places = {name: i for i, name in enumerate(ours)}
    return np.array([*(places.get(name, -1) for name in theirs), -1], kind)
