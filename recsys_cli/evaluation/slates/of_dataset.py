"""Slates against the test window of a dataset: those of files and those of runs, beside one another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.intact import open_intact
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.repeats import repeats_in
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.data.windows.split import make_split, split_again
from recsys_cli.errors import ArtifactError, DataError, UsageError, did_you_mean
from recsys_cli.evaluation.batch_lists import Served
from recsys_cli.evaluation.day_intervals import FEWEST_DAYS
from recsys_cli.evaluation.lists import audience, open_popularity, within_catalogue
from recsys_cli.evaluation.offline import check_run
from recsys_cli.evaluation.period import test_window, window_text
from recsys_cli.evaluation.slates import metrics as of_slates
from recsys_cli.evaluation.slates.beside import give_reasons, source_mix
from recsys_cli.evaluation.slates.bubble import filter_bubble
from recsys_cli.evaluation.slates.evaluate import SlateReport, deep, measure
from recsys_cli.evaluation.slates.facts import Facts, described
from recsys_cli.evaluation.slates.pack import Judged, pack
from recsys_cli.evaluation.slates.read import read_slates
from recsys_cli.evaluation.slates.segments import check
from recsys_cli.evaluation.slates.sessions import pack_sessions
from recsys_cli.evaluation.truth import Truth, find_truth

if TYPE_CHECKING:
    from recsys_cli.data.windows.windows import Split
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.settings import Settings

ACTIVITY = ((0, "no history"), (1, "1 to 9"), (10, "10 to 49"), (50, "50 and more"))
"""Fewest interactions before the cutoff → the segment of the attribute `activity`."""


@dataclass(frozen=True)
class Ground:
    """The test window of a dataset: what slates are judged by."""

    dataset: Dataset
    split: Split
    state: State
    """as of the start of the window"""
    truth: Truth

    @classmethod
    def of(cls, settings: Settings, engine: RecommendationEngine | None = None) -> Ground:
        """That of the dataset in the settings; with an engine, as its run split it. Raises DataError without truth."""
        dataset = open_intact(settings.paths.data, settings.paths.artifacts)
        split = (
            make_split(settings.windows, dataset, seed=settings.seed)
            if engine is None
            else split_again(engine.manifest.windows, dataset)
        )
        w, log = split.windows, split.log
        state = State.build(dataset.catalogue, log, w.test_start, dataset.edges("follows"), dataset.edges("blocks"))
        if engine is not None:
            repeats = engine.repeats
        else:
            common = repeats_in(log, w.validation_start, w.test_start).common
            repeats = not settings.pipeline.filters.leaves_out_seen(common)
        truth = find_truth(
            log, state, w.test_start, w.end, settings.evaluation.truths,
            never_again=not repeats and settings.evaluation.truths == "reachable", repeats=repeats,
        )
        if not len(truth.users):
            raise DataError(
                f"{dataset.path}: nothing is to be found in the test window ({window_text(test_window(split))})",
                "make the window longer (`windows.test_share`), or name what people turned to with --truth",
            )
        return cls(dataset, split, state, truth)

    def frame(self, users: np.ndarray, items: np.ndarray) -> pl.DataFrame:
        """Columns user and item, the owner's ids, of pairs of positions."""
        ids = _series(self.dataset.user_ids), _series(self.dataset.item_ids)
        return pl.DataFrame({"user": ids[0].gather(users), "item": ids[1].gather(items)})

    def frame_of_lists(self, lists: np.ndarray) -> pl.DataFrame:
        """Lists of the test users, int32[U, K] positions, as rows in order with their rank."""
        row, slot = np.nonzero(lists >= 0)
        frame = self.frame(self.truth.users[row], lists[row, slot])
        return frame.with_columns(rank=pl.Series(slot + 1.0))

    def pack(
        self, slates: Mapping[str, pl.DataFrame], k: int, *, per_session: bool = False, by_day: bool = False
    ) -> Judged:
        """A row a user, with `per_session` a session of the window, or with `by_day` a day of it (UTC).

        Raises DataError where the log has no sessions, or the window too few days.
        """
        relevant = self.truth.relevant
        if not per_session and not by_day:
            truth = self.frame(self.truth.users[relevant.rows], relevant.values)
            return pack(slates, truth, k, _series(self.dataset.item_ids))
        window = self.split.log.window(self.split.windows.test_start, self.split.windows.end)
        sessions = window.time // DAY if by_day else window.session
        if by_day and (self.split.places or len(np.unique(sessions)) < FEWEST_DAYS):
            raise DataError(
                f"{self.dataset.path}: the test window has fewer than {FEWEST_DAYS} days: they say nothing of others",
                "make it longer (`windows.test_share`), or take intervals over users",
            )
        if sessions is None:
            raise DataError(f"{self.dataset.path}: the log has no sessions", "map session_id when importing")
        place = np.full(self.state.catalogue.n_users, -1)
        place[self.truth.users] = np.arange(len(self.truth.users))
        rows = np.flatnonzero(window.positive & (place[window.user] >= 0))
        rows = rows[relevant.contains(place[window.user[rows]], window.item[rows])]
        truth = self.frame(window.user[rows], window.item[rows])
        truth = truth.with_columns(session=pl.Series(sessions[rows]))
        if by_day:
            slates = {name: frame.drop("session", strict=False) for name, frame in slates.items()}
        judged = pack_sessions(slates, truth.unique(), k, _series(self.dataset.item_ids))
        return replace(judged, by_day=by_day)

    def facts(self, judged: Judged) -> Facts:
        """What the dataset knows of the items and users of a `Judged`; nothing is known of ids that are not its own."""
        state, catalogue = self.state, self.dataset.catalogue
        at = self.dataset.item_ids.positions(judged.items.to_numpy())
        known = at >= 0
        places = np.maximum(at, 0)

        def of(figures: np.ndarray, missing: float) -> np.ndarray:
            return np.where(known, figures[places], missing)

        people = audience(self.split.log, state)
        users = self.dataset.user_ids.positions(judged.users.to_numpy())
        timed = not self.split.places and (catalogue.item_created > 0).any()
        created = catalogue.item_created
        age = np.where(created > 0, (state.now - created) / DAY, np.nan)
        safety = list(catalogue.item_safety.values())
        topics = catalogue.item_topics
        has_authors = (catalogue.item_author >= 0).any()
        return Facts(
            open=of(state.available, False).astype(bool),
            topics=_rows(topics, at) if len(topics.values) else None,
            authors=of(catalogue.item_author, -1).astype(np.int64) if has_authors else None,
            author_names=_series(self.dataset.author_ids).to_list() if has_authors else [],
            audience=of(people, 0).astype(np.int64),
            n_people=catalogue.n_users,
            popularity=of(open_popularity(state), np.nan),
            profile=_profile(state, users, people),
            age_days=of(age, np.nan) if timed else None,
            vectors=_vectors(catalogue.item_columns.vectors, at),
            **described(_beside(self.dataset.items, at)),
            unsafe=of(np.fmax.reduce(safety), np.nan) if safety else None,
            users=self.attributes[pl.Series(np.searchsorted(self.truth.users, users))].with_columns(user=judged.users),
        )

    @cached_property
    def edges(self) -> dict[str, Any]:
        """Who follows and who blocks whom."""
        return {table: self.dataset.edges(table) for table in ("follows", "blocks")}

    def at(self, engine: RecommendationEngine) -> RecommendationEngine:
        """An engine as of the start of the window."""
        return engine.as_of(self.split.log, self.split.windows.test_start, **self.edges)

    @cached_property
    def attributes(self) -> pl.DataFrame:
        """The test users' columns in the dataset, and `activity`: interactions before the cutoff in four segments."""
        table, users = self.dataset.users, self.truth.users
        kept = [c for c, t in table.schema.items() if c != "user_id" and not t.is_nested()]
        beside = table.select(kept)[users]
        touched = self.state.history.lengths[users]
        at = np.searchsorted([fewest for fewest, _ in ACTIVITY], touched, side="right") - 1
        names = [name for _, name in ACTIVITY]
        return beside.with_columns(activity=pl.Series([names[i] for i in at], dtype=pl.String))


def _series(vocabulary) -> pl.Series:
    return pl.Series(vocabulary.external(np.arange(len(vocabulary))))


def _beside(table: pl.DataFrame, at: np.ndarray) -> pl.DataFrame:
    """The rows of a table at some places, nulls at -1."""
    return table[pl.Series(np.maximum(at, 0))].with_columns(
        pl.when(pl.Series(at >= 0)).then(pl.col(c)).otherwise(None).alias(c) for c in table.columns
    )


def _rows(rows: Ragged, at: np.ndarray) -> Ragged:
    """The rows at some places, empty ones at -1."""
    places, values = rows.take(at)
    return Ragged.group(places, values, len(at))


def _profile(state: State, users: np.ndarray, people: np.ndarray) -> np.ndarray:
    """float64[U] mean audience of the items that each user interacted with, NaN without any."""
    places, items = state.history.take(users)
    n = np.bincount(places, minlength=len(users))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, np.bincount(places, weights=people[items], minlength=len(users)) / n, np.nan)


def _vectors(columns: Mapping[str, np.ndarray], at: np.ndarray) -> np.ndarray | None:
    """The widest column of vectors of items; None where there is none."""
    if not columns:
        return None
    widest = max(columns.values(), key=lambda v: v.shape[1])
    return np.where((at >= 0)[:, None], widest[np.maximum(at, 0)], np.nan)


def served_by_run(engine: RecommendationEngine, ground: Ground, width: int, without: Sequence[str] = ()) -> Served:
    """What a run would have served the test users: its slates, and lists int32[U, width] with the ranking behind them.

    without: names of stages to leave out.
    """
    past = ground.at(engine)
    users = ground.truth.users
    width = max(width, engine.pipeline.slate_size)
    served = Served.empty(len(users), width, engine.pipeline.slate_size)
    size = engine.pipeline.batch_size * engine.threads
    for start in range(0, len(users), size):
        places = np.arange(start, min(start + size, len(users)))
        batch = past.slates(users[places], keep_sourced=True, without=without)
        served.put(places, Served.of(batch, width, engine.pipeline.slate_size))
    return served


def parts_of(engine: RecommendationEngine, asked: Sequence[str]) -> list[str]:
    """Names of sources and stages; "sources" stands for all of them, "stages" for all that rank and select.

    Raises UsageError for what is neither.
    """
    built = engine.stages
    sources, stages = list(engine.bundle.retrievers), [s.name for s in built.stages if not s.needed]
    ranking = [s.name for s in (*built.ranking, *built.selection) if not s.needed]
    out: dict[str, None] = {}
    for name in asked:
        if name in ("sources", "stages"):
            out |= dict.fromkeys(sources if name == "sources" else ranking)
        elif name in sources or name in stages:
            out[name] = None
        else:
            known = f"sources: {', '.join(sources)}; stages: {', '.join(stages)}"
            raise UsageError(f"nothing called {name!r} can be left out", did_you_mean(name, [*sources, *stages], known))
    return list(out)


def without_source(engine: RecommendationEngine, name: str) -> RecommendationEngine:
    """The engine without one of its sources; what it says of the others' candidates is unknown, too."""
    others = {n: r for n, r in engine.bundle.retrievers.items() if n != name}
    return replace(engine, bundle=replace(engine.bundle, retrievers=others))


def same_ground(engines: Mapping[str, RecommendationEngine]) -> None:
    """Raises ArtifactError where runs were trained on different data or windows, so that they cannot be compared."""
    first, *others = engines.items()
    for name, engine in others:
        for what, mine, theirs in (
            ("data", first[1].manifest.dataset.digest, engine.manifest.dataset.digest),
            ("windows", first[1].manifest.windows.test_start, engine.manifest.windows.test_start),
        ):
            if mine != theirs:
                raise ArtifactError(
                    f"runs {first[0]} and {name} are of different {what}: their figures are not of the same people",
                    "train both on one dataset with the same windows, or compare files of slates with --truth",
                )


def evaluate_on_dataset(
    slates: Mapping[str, Path], settings: Settings, *, engines: Mapping[str, RecommendationEngine] | None = None,
    ablate: Sequence[str] = (), k: Sequence[int] | None = None, segments: Sequence[str] = (),
    metrics: Sequence[str] | None = None, order: Sequence[str] | None = None, negatives: int | None = None,
    sample_of: int | None = None, per_session: bool = False, bubble: int | None = None, by_day: bool = False,
) -> SlateReport:
    """Measure files of slates, runs, and the first run without some of its stages, on one test window.

    by_day: count in intervals and tests what differs from day to day (`day_intervals`).
    bubble: sessions after one another in which people take what stands first, for the filter-bubble index of the runs.
    order: names of the systems, the one first that others are compared with; by default runs stand before files.
    Users of a file who are not in the dataset, and those without anything to find, are left out and counted; items that
    it does not know count as wrong. Raises ArtifactError for runs of other data, UsageError for stages that are not
    there.
    """
    started = time.perf_counter()
    if by_day and per_session:
        raise UsageError("--per-session and --intervals days cut the window in two ways", "leave one of them out")
    engines = engines or {}
    if engines:
        same_ground(engines)
    ground = Ground.of(settings, next(iter(engines.values()), None))
    for engine in engines.values():
        check_run(engine, ground.dataset)
    check(list(segments), ground.attributes)
    ks = within_catalogue(k or settings.evaluation.k, ground.state.catalogue.n_items)
    wanted = of_slates.parse(metrics, ks)
    longest = max(max(lengths) for lengths in wanted.values())
    served = {name: served_by_run(engine, ground, longest) for name, engine in engines.items()}
    if bubble and not engines:
        raise UsageError("--bubble follows a run from session to session", "name runs with --runs")
    served |= _ablated(engines, ablate, ground, longest)
    frames = {name: ground.frame_of_lists(of.lists) for name, of in served.items()}
    frames |= {name: read_slates(path) for name, path in slates.items()}
    frames = {name: frames[name] for name in order or frames}
    judged = ground.pack(frames, deep(longest, negatives, sample_of), per_session=per_session, by_day=by_day)
    report = measure(
        judged, ground.facts(judged), wanted, segments=segments, resamples=settings.evaluation.resamples,
        seed=settings.seed, negatives=negatives, sample_of=sample_of,
    )
    for system in report.document["systems"]:
        name = system["name"]
        if name in served:
            system["sources"] = source_mix(served[name], engines.get(name, next(iter(engines.values()))).source_names)
        if bubble and name in engines:
            past, edges = ground.at(engines[name]), ground.edges
            system["filter_bubble"] = filter_bubble(
                past, ground.split.log, edges, ground.truth.users, bubble, resamples=settings.evaluation.resamples,
                seed=settings.seed,
            )  # fmt: skip
    for name, engine in engines.items():
        give_reasons(report.document["examples"], name, ground.at(engine))
    report.document.update(_where(ground, started))
    return report


def _ablated(
    engines: Mapping[str, RecommendationEngine], ablate: Sequence[str], ground: Ground, width: int
) -> dict[str, Served]:
    """What the first run would have served without each of some stages and sources."""
    if not ablate:
        return {}
    if not engines:
        raise UsageError("--ablate leaves stages out of a run", "leave out --slates, or name a run")
    engine, out = next(iter(engines.values())), {}
    for part in parts_of(engine, ablate):
        if part in engine.bundle.retrievers:
            out[f"without {part}"] = served_by_run(without_source(engine, part), ground, width)
        else:
            out[f"without {part}"] = served_by_run(engine, ground, width, [part])
    return out


def _where(ground: Ground, started: float) -> dict[str, Any]:
    manifest = ground.dataset.manifest
    return {
        "dataset": {"name": manifest.name, "digest": manifest.digest},
        "window": test_window(ground.split),
        "seconds": round(time.perf_counter() - started, 3),
    }
