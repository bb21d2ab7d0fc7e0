"""The whole product on the training part of public data: imported, trained, asked for everybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys_cli.benchmark.lambdarank import lambdarank_lists
from recsys_cli.benchmark.list_rows import Row, reason
from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.benchmark.peers import NotInstalled, implicit_lists, program_lists
from recsys_cli.benchmark.splits import ListTask
from recsys_cli.benchmark.suite_config import FunnelTask, LambdaRank, OwnEnvironment, SuiteConfig
from recsys_cli.config import resolve, validate
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.engine import RecommendationEngine
from recsys_cli.evaluation.lists import Popularity, source_lists
from recsys_cli.files import scratch_folder
from recsys_cli.pipeline.config import OrderConfig
from recsys_cli.pipeline.order import FUSION, MERGE, RANKERS
from recsys_cli.progress import Progress
from recsys_cli.settings import Settings
from recsys_cli.training import train

FUNNEL, RANKING, POPULARITY = "funnel", "before re-ranking", "popularity"
ASKED = 20
"""Items of a slate, so that some are left should one have been seen."""
USERS_AT_ONCE = 2_048


@dataclass(frozen=True)
class Trained:
    """The product after training, and what that took."""

    engine: RecommendationEngine
    dataset: Dataset
    seconds: float
    """of importing and training"""
    mib: float


@dataclass(frozen=True)
class Where:
    """Where a suite works."""

    base: Path
    """folder of the suite's file"""
    work: Path
    """folder for what is kept between runs, and for what is removed again"""
    seed: int
    threads: int
    progress: Progress


def funnel_rows(task: ListTask, settings: FunnelTask, suite: SuiteConfig, where: Where) -> tuple[list[Row], dict]:
    """The rows of a task and what is to be told of the training: its order, seconds, sources and notes."""
    where.work.mkdir(parents=True, exist_ok=True)
    with scratch_folder(where.work) as name:
        trained = train_on(task, settings.settings, Path(name), where)
        at = Places.of(trained.engine, task)
        rows = [*pipeline_rows(trained, task, at, where), *part_rows(trained, task, at, settings.k, where)]
        peers = suite.peers if settings.peers is None else {n: suite.peers[n] for n in settings.peers}
        for peer, config in peers.items():
            rows.append(_peer_row(config, peer, trained, task, at, settings.k, where))
        return rows, _told(trained)


def train_on(task: ListTask, changed: dict, folder: Path, where: Where) -> Trained:
    """Import the training rows into `folder` and train there, as `recsys import-data` and `recsys train` do."""
    with PeakMemory() as memory:
        start = time.perf_counter()
        mapping = validate(Mapping, write_files(task, folder))
        import_dataset(mapping, folder, folder / "data", mapping_name="benchmark", progress=where.progress)
        layer = {
            "seed": where.seed, "threads": where.threads,
            "paths": {"data": str(folder / "data"), "artifacts": str(folder / "artifacts")},
        }
        config = resolve(Settings, layers=[("file", changed), ("flag", layer)]).config
        train(config, progress=where.progress)
        seconds = time.perf_counter() - start
    engine = RecommendationEngine.load(folder / "artifacts", pipeline=config.pipeline, threads=where.threads)
    return Trained(engine, Dataset.open(folder / "data"), seconds, memory.mib)


def write_files(task: ListTask, folder: Path) -> dict:
    """Write the training rows and who follows whom as CSV; returns the mapping that reads them."""
    train = task.train
    times = np.arange(len(train.users)) if train.times is None else train.times
    columns = {"user_id": "u", "item_id": "i"}
    if task.ordered:
        columns["timestamp"] = ({"column": "t", "order": True} if train.times is None else {"column": "t", "unit": "s"})
    with (folder / "log.csv").open("w") as file:
        file.write("u,i,t\n" if task.ordered else "u,i\n")
        for row in zip(train.users.tolist(), train.items.tolist(), times.tolist(), strict=True):
            file.write(",".join(map(str, row[: 2 + task.ordered])) + "\n")
    mapping = {
        "name": "benchmark", "max_reject_share": 0.2, "unknown_users": "add",
        "impressions": {"files": "log.csv", "columns": columns, "actions": {"click": {"value": True}}},
    }
    if task.follows:
        (folder / "follows.csv").write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in task.follows))
        mapping["authors_are_users"] = True
        mapping["follows"] = {"files": "follows.csv", "columns": {"follower_id": "a", "followee_id": "b"}}
    return mapping


@dataclass(frozen=True)
class Places:
    """Positions of the task's users and items in the dataset that training read."""

    users: np.ndarray
    """int32[U] of the task's users"""
    items: np.ndarray
    """int32[m + 1] task position of each item of the dataset, -1 last for an empty place"""

    @classmethod
    def of(cls, engine: RecommendationEngine, task: ListTask) -> Places:
        bundle = engine.bundle
        items = np.full(len(bundle.item_ids) + 1, -1, np.int32)
        at = bundle.item_ids.positions(task.item_ids)
        items[at[at >= 0]] = np.flatnonzero(at >= 0)
        return cls(bundle.user_ids.positions(task.user_ids[task.users]), items)

    def batches(self) -> list[slice]:
        return [slice(at, at + USERS_AT_ONCE) for at in range(0, len(self.users), USERS_AT_ONCE)]


def pipeline_rows(trained: Trained, task: ListTask, at: Places, where: Where) -> list[Row]:
    """The funnel, the same before exploration, caps and safety, and other orders of its candidates."""
    engine = trained.engine
    orders = {name: _ordered(engine, name) for name in _other_orders(engine)}
    lists = {name: [] for name in (FUNNEL, RANKING, *orders)}
    seconds = dict.fromkeys(lists, 0.0)
    with PeakMemory() as memory, where.progress.step("lists", total=len(at.batches())) as bar:
        for part in at.batches():
            start = time.perf_counter()
            batch = engine.slates(at.users[part], ASKED, keep_sourced=True)
            seconds[FUNNEL] += time.perf_counter() - start
            lists[FUNNEL].append(_padded(batch.items))
            lists[RANKING].append(_padded(batch.ranked.items))
            for name, other in orders.items():
                start = time.perf_counter()
                ranked = other.slates(at.users[part], ASKED, keep_sourced=True, hydrated=batch.hydrated).ranked
                seconds[name] += time.perf_counter() - start
                lists[name].append(_padded(ranked.items))
            bar.advance()
    rows = []
    for name, parts in lists.items():
        mine = name == FUNNEL
        rows.append(Row(
            name, "funnel" if mine else "order", at.items[np.concatenate(parts)],
            trained.seconds if mine else None, seconds[name] or None,
            peak_memory_mib=max(trained.mib, memory.mib) if mine else None,
            request_ms=_request_ms(lambda users: engine.slates(users, ASKED), at.users) if mine else None,
        ))
    return rows


def _other_orders(engine: RecommendationEngine) -> list[str]:
    bundle = engine.bundle
    there = {"light": bundle.light, "relevance": bundle.relevance, "heavy": bundle.heavy}
    orders = [MERGE, FUSION, *(name for name in RANKERS if there[name] is not None)]
    return [name for name in orders if name != engine.order.known]


def _ordered(engine: RecommendationEngine, name: str) -> RecommendationEngine:
    order = OrderConfig(known=name, new=name)
    return engine.with_pipeline(engine.pipeline.model_copy(update={"order": order}))


def _padded(items: np.ndarray) -> np.ndarray:
    """int32[B, ASKED]"""
    items = items[:, :ASKED]
    return np.pad(items, ((0, 0), (0, ASKED - items.shape[1])), constant_values=-1)


def part_rows(trained: Trained, task: ListTask, at: Places, k: int, where: Where) -> list[Row]:
    """Every source alone, and popularity."""
    engine = trained.engine
    state, durations = engine.state, engine.manifest.durations
    makers: dict[str, tuple[str, Callable]] = {POPULARITY: ("baseline", Popularity(state))}
    for name, source in engine.bundle.retrievers.items():
        label = f"{name} (source)" if name == POPULARITY else name
        makers[label] = ("source", lambda users, n, s=source: source_lists(s, state, users, n))
    # users with equally much to leave out stand in one batch: a list is only as deep as it must be
    order = np.argsort(state.seen.lengths[at.users], kind="stable")
    rows = []
    with where.progress.step("sources alone", total=len(makers)) as bar:
        for name, (group, make) in makers.items():
            bar.describe(name)
            items = np.full((len(at.users), k), -1, np.int32)
            with PeakMemory() as memory:
                start = time.perf_counter()
                for part in at.batches():
                    items[order[part]] = make(at.users[order[part]], k)
                seconds = time.perf_counter() - start
            fit = durations.get(f"fit {name.removesuffix(' (source)')} (served)") if group == "source" else None
            rows.append(Row(name, group, at.items[items], fit, seconds, peak_memory_mib=memory.mib,
                            request_ms=_request_ms(lambda users, m=make: m(users, k), at.users)))
            bar.advance()
    return rows


def _request_ms(answer: Callable[[np.ndarray], object], users: np.ndarray, requests: int = 50) -> float:
    """Median milliseconds of answering one user, after a few to warm up."""
    some = users[np.linspace(0, len(users) - 1, requests + 5).astype(int)]
    times = []
    for user in some:
        start = time.perf_counter()
        answer(np.array([user], np.int32))
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[5:]))


def _peer_row(config, name: str, trained: Trained, task: ListTask, at: Places, k: int, where: Where) -> Row:
    where.progress.message(f"{name} …")
    try:
        if isinstance(config, LambdaRank):
            row = lambdarank_lists(
                config, name, trained.engine, trained.dataset, at.users, ASKED, ordered=task.ordered, seed=where.seed,
                progress=where.progress,
            )
            row.items = at.items[row.items]
            return row
        if isinstance(config, OwnEnvironment):
            return program_lists(config, name, task, k, where.base, where.work / "peers")
        return implicit_lists(config, name, task, k, where.seed, where.threads)
    except NotInstalled as error:
        return Row(name, "peer", error=error.message, absent=True)
    except Exception as error:  # the others are not lost to one peer, whatever it stumbled over
        return Row(name, "peer", error=reason(error))


def _told(trained: Trained) -> dict:
    manifest, order = trained.engine.manifest, trained.engine.order
    account = manifest.metrics.get("order", {})
    return {
        "order": order.to_json(),
        "why": account.get("known", {}).get("why"),
        "train_seconds": trained.seconds,
        "durations": manifest.durations,
        "settings_found": {n: t["settings"] for n, t in manifest.metrics.get("tuning", {}).items() if t["settings"]},
        "notes": manifest.notes,
    }
