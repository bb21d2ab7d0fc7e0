"""LightGBM's LambdaRank on the candidates that the product's own sources propose."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.benchmark.list_rows import Row
from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.benchmark.suite_config import LambdaRank
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.data.windows.row_windows import HISTORY, TEST, arrange, places_at_random, places_in_order
from recsys_cli.data.windows.split import after_everything
from recsys_cli.pipeline.request_features import candidate_features, request_feature_names
from recsys_cli.pipeline.request_rows import TAKEN, RequestRows
from recsys_cli.pipeline.requests import Asked, Moment, ask, moment_of, request_rows
from recsys_cli.pipeline.scoring import similarities
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine


def lambdarank_lists(
    config: LambdaRank, name: str, engine: RecommendationEngine, dataset: Dataset, users: np.ndarray, k: int,
    *, ordered: bool, seed: int, progress: Progress,
) -> Row:
    """Lists int32[B, k] (positions of the dataset) of users int32[B] by LambdaRank on the engine's candidates."""
    with PeakMemory() as memory, progress.step(name):
        start = time.perf_counter()
        rows = rows_to_learn_from(config, engine, dataset, ordered, seed, progress)
        model = fit(config, rows, seed, engine.threads)
        fitted = time.perf_counter()
        items = rank(model, engine, rows.table.names, users, k, seed)
        ranked = time.perf_counter()
    return Row(name, "peer", items, fitted - start, ranked - fitted, peak_memory_mib=memory.mib,
               more={"rows": len(rows), "wanted": rows.wanted, "proposed": rows.proposed})


def rows_to_learn_from(
    config: LambdaRank, engine: RecommendationEngine, dataset: Dataset, ordered: bool, seed: int, progress: Progress
) -> RequestRows:
    """Candidates of everybody who hides a part of their rows, by the engine's sources fitted without that part."""
    log, bundle = dataset.log, engine.bundle
    count = np.bincount(log.user)
    place = (places_in_order(log.user) if ordered
             else places_at_random(log.user, np.random.default_rng(seed)))
    kept = count - np.floor(count * config.share).astype(np.int64)
    window = np.where(place >= kept[log.user], TEST, HISTORY).astype(np.int8)
    arranged = arrange(log, window, after_everything(dataset))
    cut, end = arranged.bounds[1], arranged.bounds[-1]
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    past = arranged.log.window(end=cut)
    state = State.build(dataset.catalogue, past, cut, **edges)
    known = Window(dataset, dataset.catalogue, past, cut, state, seed)
    fitted = {}
    for source_name, source in bundle.retrievers.items():
        fresh = type(source)(source.config)
        if fresh.missing(known) is None:
            fresh.fit(known, progress)
            fitted[source_name] = fresh
    before = replace(bundle, retrievers=fitted)
    moment = moment_of(before, arranged.log, cut, end, edges, most=len(count), seed=seed)
    return request_rows(
        before, engine.pipeline, [moment], request_feature_names(bundle.proposing), most=config.rows, seed=seed,
        threads=engine.threads,
    )


def fit(config: LambdaRank, rows: RequestRows, seed: int, threads: int):
    """A booster of LightGBM; requests in which nothing was taken teach nothing and are left out."""
    import lightgbm

    order = np.argsort(rows.request, kind="stable")
    request, label = rows.request[order], rows.table.labels[TAKEN][order]
    _, group = np.unique(request, return_inverse=True)
    useful = np.bincount(group, label)[group] > 0
    sizes = np.unique(request[useful], return_counts=True)[1]
    data = lightgbm.Dataset(rows.table.values[order][useful], label[useful].astype(np.int8), group=sizes)
    settings = {
        "objective": "lambdarank", "num_leaves": config.leaves, "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.least_rows, "num_threads": threads, "seed": seed, "deterministic": True,
        "force_row_wise": True, "verbosity": -1,
    }
    return lightgbm.train(settings, data, config.rounds)


def rank(
    model, engine: RecommendationEngine, names: tuple[str, ...], users: np.ndarray, k: int, seed: int
) -> np.ndarray:
    """int32[B, k] best candidates of users int32[B], -1 filling."""
    out = np.full((len(users), k), -1, np.int32)
    moment = Moment(engine.state, engine.snapshot, users, Ragged.empty(len(users)))
    for rows, query, found in ask(engine.bundle, engine.pipeline, moment, seed, _as_it_is, engine.threads):
        values = candidate_features(query, found, names, similarities(query, found))
        scores = np.full(found.items.shape, -np.inf, np.float32)
        scores[found.filled] = model.predict(values[found.filled], num_threads=engine.threads)
        best = found.with_scores(order=scores).best("order", k).items
        out[rows, : best.shape[1]] = best
    return out


def _as_it_is(asked: Asked) -> Asked:
    return asked
