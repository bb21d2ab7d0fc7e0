"""The launch list: what must hold before a run is shown to people, what was measured, and how to mend it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.artifacts.runs import Run, RunStore
from recsys_cli.errors import RecsysError
from recsys_cli.live.gates import FEWEST_POSITIVES, Gate, cores, lost_columns

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.settings import Settings

FEWEST_USERS = 30
"""Groups of fewer users say nothing."""
ALONE = 200
"""Slates made one by one for the latency."""
TIMES = 10
"""Multiple of the expected traffic that must be sustained."""
EXPERIMENT_SHARE = 0.05
"""Share of users that an experiment must reach at least."""


def launch_list(settings: Settings, run: str | None = None) -> list[Gate]:
    """Every row of the list, in order. Raises ArtifactError where there is no run, DataError without its data.

    A row that cannot be judged has `passed` None and says why.
    """
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine

    store = RunStore(settings.paths.artifacts)
    opened = store.open(run)
    dataset = open_intact(settings.paths.data, settings.paths.artifacts)
    engine = RecommendationEngine.load(store.folder, opened.id, settings.pipeline, threads=1)
    rows = [Gate("run", True, f"{opened.id}, its files are whole", "a run that can be served")]
    rows += [_features(engine, dataset), *_age(settings, dataset)]
    rows += _guarded("lists", "measured on the test window", lambda: _lists(settings, opened, dataset))
    rows += [_calibration(settings, opened), *_speed(settings, engine)]
    return [*rows, _rollback(store, opened), _experiment(settings), _monitor(settings)]


def _guarded(name: str, wanted: str, made: Callable[[], list[Gate]]) -> list[Gate]:
    """Rows, or one that says why they cannot be told."""
    try:
        return made()
    except RecsysError as error:
        return [Gate(name, None, error.message, wanted, error.hint or "")]


def _features(engine: RecommendationEngine, dataset: Dataset) -> Gate:
    lost = lost_columns(engine.bundle.catalogue, dataset.catalogue)
    there = f"{len(engine.bundle.spec.names)} features, all columns there"
    return Gate(
        "feature dependencies", not lost, f"gone or emptied: {', '.join(lost)}" if lost else there,
        "every column that a feature reads", "bring the columns back, or train without them",
    )


def _age(settings: Settings, dataset: Dataset) -> list[Gate]:
    most = settings.live.check.data_days
    if most is None or dataset.manifest.time_span is None:
        return []
    days = (time.time() - dataset.manifest.time_span[1] / 1e6) / 86_400
    return [Gate("data: age", days <= most, f"newest impression {days:,.1f} days ago", f"at most {most:g}",
                 "`recsys retrain --events LOG`")]


def _lists(settings: Settings, run: Run, dataset: Dataset) -> list[Gate]:
    """Coverage, diversity, unsafe exposure and groups, from the lists of the test users."""
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.offline import check_run, sample_users
    from recsys_cli.evaluation.slates import metrics as of_slates
    from recsys_cli.evaluation.slates.evaluate import measure
    from recsys_cli.evaluation.slates.of_dataset import Ground
    from recsys_cli.live.lists import lists_by_id

    config = settings.live.check
    engine = RecommendationEngine.load(settings.paths.artifacts, run.id, settings.pipeline, threads=settings.threads or
                                       cores(), measured=True)  # fmt: skip
    check_run(engine, dataset)
    ground = Ground.of(settings, engine)
    ground = replace(ground, truth=sample_users(ground.truth, config.users, settings.seed))
    k = min(10, ground.state.catalogue.n_items)
    frame, _ = lists_by_id(engine, ground, k)
    judged = ground.pack({run.id: frame}, k)
    facts = ground.facts(judged)
    groups = [c for c in facts.users.columns if c != "user" and 1 < facts.users[c].n_unique() <= 20]
    wanted = of_slates.parse(("ndcg", "coverage", "diversity", "unsafe"), [k])
    document = measure(
        judged, facts, wanted, segments=groups, resamples=settings.evaluation.resamples, seed=settings.seed
    ).document
    found = {name: m["value"] for name, m in document["systems"][0]["metrics"].items()}
    rows = []
    for name, metric, bound, least, mend in (
        ("coverage", "coverage", config.coverage, True, "raise pipeline.exploration, or add sources"),
        ("topic diversity", "diversity", config.topic_diversity, True, "see `pipeline.diversity`"),
        ("unsafe exposure", "unsafe", config.unsafe, False, "tighten `pipeline.safety`; `recsys safety audit`"),
    ):
        value = found.get(f"{metric}@{k}")
        said = f"at {'least' if least else 'most'} {bound:g}"
        if value is None or value != value:
            rows.append(Gate(name, None, "the data cannot tell", said, ""))
        else:
            rows.append(Gate(name, value >= bound if least else value <= bound, f"{value:.4f} at {k}", said, mend))
    return [*rows, _groups(document, f"ndcg@{k}", found, config.group_gap)]


def _groups(document: dict[str, Any], metric: str, found: dict[str, float], gap: float) -> Gate:
    """The group of users that is served worst."""
    served = [
        (row["metrics"][metric]["value"], f"{part['by']} {row['segment']}")
        for part in document["segments"] for row in part["segments"] if row["users"] >= FEWEST_USERS
    ]
    wanted = f"at least {gap:g} of everybody's"
    if not served or not found.get(metric):
        return Gate("groups", None, f"no group of {FEWEST_USERS} users", wanted, "")
    worst, name = min(served)
    told = f"worst {metric} {worst:.4f} of {name}, everybody's {found[metric]:.4f}"
    return Gate(
        "groups", worst >= gap * found[metric], told, wanted, "see `recsys evaluate --segments`",
    )


def _calibration(settings: Settings, run: Run) -> Gate:
    bound = settings.live.check.calibration
    heads = {
        name: row["ece"] for name, row in run.manifest.metrics.get("heavy", {}).items()
        if isinstance(row, dict) and row.get("positives", 0) >= FEWEST_POSITIVES and row.get("ece") is not None
    }
    if not heads:
        return Gate("calibration", None, f"no action with {FEWEST_POSITIVES} positives", f"error at most {bound:g}", "")
    worst = max(heads, key=heads.get)
    return Gate("calibration", heads[worst] <= bound, f"error of {worst} {heads[worst]:.4f}", f"at most {bound:g}",
                "see the reliability charts of `recsys evaluate`")


def _speed(settings: Settings, engine: RecommendationEngine) -> list[Gate]:
    """Slates one by one, and in batches: seconds of this processor, so that what else runs here does not count."""
    config, n = settings.live.check, len(engine.bundle.user_ids)
    users = np.random.default_rng(settings.seed).permutation(n)[:ALONE].astype(np.int32)
    engine.slates(users[:1])
    alone = []
    for user in users:
        start = time.process_time()
        engine.slates(np.array([user], np.int32))
        alone.append(1000 * (time.process_time() - start))
    p99 = float(np.quantile(alone, 0.99))
    start = time.process_time()
    engine.slates(users)
    rate = cores() * len(users) / max(time.process_time() - start, 1e-9)
    wanted = TIMES * config.requests_per_second
    return [
        Gate("latency", p99 <= config.slate_ms, f"99th percentile {p99:.1f} ms of processor",
             f"at most {config.slate_ms:g} ms", "see `recsys recommend --explain`: which stage takes it"),
        Gate("load", rate >= wanted, f"{rate:,.0f} slates a second on {cores()} cores, in batches",
             f"{TIMES} × {config.requests_per_second:g} a second", "more cores or servers, or fewer candidates"),
    ]  # fmt: skip


def _rollback(store: RunStore, run: Run) -> Gate:
    """Whether an earlier run can take over: it is opened, verified, and serves a slate."""
    from recsys_cli.engine import RecommendationEngine

    wanted, why = "another run that serves", "there is no other run"
    for other in reversed([r for r in store.ids() if r != run.id]):
        try:
            store.open(other)
            batch = RecommendationEngine.load(store.folder, other).slates(np.zeros(1, np.int32))
        except RecsysError as error:
            why = f"{other}: {error.message}"
            continue
        if (batch.items >= 0).any():
            return Gate("rollback", True, f"{other} is whole and serves", wanted)
        why = f"{other} serves an empty slate"
    return Gate("rollback", False, why, wanted, "train a second run, so that `recsys runs use ID` has a way back")


def _experiment(settings: Settings) -> Gate:
    from recsys_cli.experiments.registry import ExperimentRegistry

    wanted = f"one that runs, for {EXPERIMENT_SHARE:.0%} of the users or more"
    registry = ExperimentRegistry(settings.paths.artifacts)
    mend = "plan and start one: `recsys docs experiments`"
    for name in registry.names():
        started = registry.open(name)
        if started.state == "running":
            share = started.config.traffic
            return Gate("experiment", share >= EXPERIMENT_SHARE, f"{name} runs for {share:.0%} of the users", wanted,
                        mend)
    return Gate("experiment", False, "none runs", wanted, mend)


def _monitor(settings: Settings) -> Gate:
    from recsys_cli.live.alerts import standing
    from recsys_cli.live.figures import daily_figures, reference_of
    from recsys_cli.live.rollup import DayStore, Described

    days = DayStore(settings.paths.artifacts).read()
    mend = "`recsys monitor report` every day, from cron or a timer"
    if not days:
        return Gate("monitor", False, "nothing was rolled up", "a report, and no alert on", mend)
    from recsys_cli.data.intact import open_intact

    dataset = open_intact(settings.paths.data, settings.paths.artifacts)
    reference = reference_of(dataset, Described.of(dataset))
    history = standing(settings.live.monitor, daily_figures(days, reference))
    on = [name for name, of in history.items() if of and of[-1].state != "ended"]
    told = f"{len(days):,} days, the last {max(days)}; " + (f"on: {', '.join(on)}" if on else "no alert is on")
    return Gate("monitor", not on, told, "a report, and no alert on", "see `recsys monitor report`")
