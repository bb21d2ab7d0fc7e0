"""RecommendationEngine: a bundle and a pipeline; what the terminal, evaluation, experiments and serving use."""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.artifacts.runs import RunManifest, RunStore
from recsys_cli.data.state import State
from recsys_cli.errors import UnknownIdError, UsageError, nearest
from recsys_cli.features.snapshot import Context, Snapshot
from recsys_cli.parallel import one_blas_thread
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.bundle import Bundle, read_bundle
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.explain import Recommendations, describe_slate
from recsys_cli.pipeline.guest import GuestSnapshot, with_guest
from recsys_cli.pipeline.order import Order
from recsys_cli.pipeline.order_scores import resolve_order
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.runner import Runner, StageRecord
from recsys_cli.safety.accounts import author_scores
from recsys_cli.safety.policy import Actions, SafetyRules, trace_fields
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.log import Log

UNKNOWN_USER = "unknown user"
NO_HISTORY = "no history"
FEW_CANDIDATES = "too few candidates"
GUEST = "guest"
"""Id of somebody who is not in the data and is known by a history alone."""


@dataclass(frozen=True)
class SlateBatch:
    """Slates of B users."""

    users: np.ndarray
    """int32[B]"""
    items: np.ndarray
    """int32[B, n], -1 where a slate is short"""
    scores: dict[str, np.ndarray]
    """"utility", "light", "p_<action>", "dwell", "sim_<source>", "explored", "safety", "safety_factor",
    "interstitial" → float32[B, n]"""
    sources: np.ndarray
    """uint32[B, n], bit s is `RecommendationEngine.source_names[s]`"""
    fallback: list[str | None]
    """why trending and popular items had to help, a user: "unknown user", "no history", "too few candidates"""
    funnel: list[StageRecord]
    sourced: Candidates | None = None
    """what the sources proposed, when asked to keep it"""
    ranked: Candidates | None = None
    """the ranking by utility before exploration, caps and safety, kept along with `sourced`"""
    hydrated: Candidates | None = None
    """what goes into ranking, kept along with `sourced`"""
    request: str = ""


@dataclass(frozen=True)
class RecommendationEngine:
    """Recommends from one run. Cheap to copy: `with_pipeline` and `as_of` share the models.

    Raises ArtifactError where the run cannot be used and ConfigError where the pipeline's settings name
    something that is not there.
    """

    bundle: Bundle
    pipeline: PipelineConfig
    manifest: RunManifest | None = None
    state: State | None = None
    """the moment served; the bundle's own where None"""
    snapshot: Snapshot | None = None
    seed: int = 0
    threads: int = 1
    """batches served at once where there are several"""
    guest: int | None = None
    """position of the user `GUEST` where there is one (`with_guest`)"""
    told: tuple[str, ...] = ()
    """notes for the answers of this engine alone"""
    trace: TraceLog = field(default=SILENT, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.state is None:
            object.__setattr__(self, "state", self.bundle.state)
            object.__setattr__(self, "snapshot", self.bundle.snapshot)
        object.__setattr__(self, "stages", build_pipeline(self.pipeline, self.bundle, self.order))

    @classmethod
    def load(
        cls,
        artifacts: str | Path = "artifacts",
        run: str | None = None,
        pipeline: PipelineConfig | None = None,
        *,
        threads: int = 1,
        trace: TraceLog = SILENT,
        measured: bool = False,
    ) -> RecommendationEngine:
        """Open a run (the current one by default).

        measured: the half of it that knows nothing of the test window. pipeline: settings other than those the run
        was trained with. threads: batches served at once in batch work (0: one a core); a single request is always
        served by one.
        """
        opened = RunStore(artifacts).open(run)
        if pipeline is None:
            pipeline = PipelineConfig.model_validate(opened.manifest.settings["pipeline"])
        threads = threads or len(os.sched_getaffinity(0))
        bundle = read_bundle(opened.measured if measured else opened.bundle)
        return cls(bundle, pipeline, opened.manifest, seed=opened.manifest.seed, threads=threads, trace=trace)

    @cached_property
    def order(self) -> Order:
        """What orders the candidates: what training chose, or what the settings name."""
        return resolve_order(self.pipeline, self.bundle)

    @property
    def notes(self) -> list[str]:
        """What the stages of this pipeline could not take as it was given."""
        return self.stages.notes

    @property
    def repeats(self) -> bool:
        """Whether lists may hold what the user was shown before."""
        return not self.pipeline.filters.leaves_out_seen(self.bundle.repeats)

    @property
    def safety_rules(self) -> SafetyRules | None:
        """The rules that act in this pipeline; None where none can."""
        return self.stages.rules

    @property
    def source_names(self) -> tuple[str, ...]:
        """Source of each bit in `SlateBatch.sources`."""
        return self.bundle.configured

    def with_pipeline(self, pipeline: PipelineConfig) -> RecommendationEngine:
        """The same models behind another pipeline."""
        return replace(self, pipeline=pipeline)

    def as_of(
        self,
        log: Log,
        now: int,
        *,
        catalogue: Catalogue | None = None,
        follows: dict[str, np.ndarray] | None = None,
        blocks: dict[str, np.ndarray] | None = None,
    ) -> RecommendationEngine:
        """The same models at another moment: state and features from the rows of `log` before `now` (µs).

        catalogue: the bundle's with items appended. follows, blocks: edges as `Dataset.edges` gives them.
        """
        if catalogue is not None and catalogue.n_items != self.bundle.catalogue.n_items:
            for retriever in self.bundle.retrievers.values():
                retriever.adapt(catalogue)
        catalogue = self.bundle.catalogue if catalogue is None else catalogue
        authors = author_scores(catalogue, log, now, self.bundle.safety, follows, blocks)
        catalogue = replace(catalogue, author_safety=authors)
        state = State.build(catalogue, log, now, follows, blocks)
        snapshot = Snapshot.build(self.bundle.spec, catalogue, log, now, follows, blocks)
        return replace(self, state=state, snapshot=snapshot)

    def slates(
        self,
        users: np.ndarray,
        n: int | None = None,
        context: Context | None = None,
        *,
        keep_sourced: bool = False,
        request: int = 0,
        hydrated: Candidates | None = None,
    ) -> SlateBatch:
        """Slates for a batch of user positions (int32[B], -1 for somebody unknown).

        context: of the requests (rows as users). request: salt of exploration. hydrated: what goes into ranking, as an
        engine with the same sources and filters kept it for these users; the stages before it are not run again. Users
        are served `pipeline.batch_size` at a time.
        """
        users = np.asarray(users, np.int32)
        n = self.pipeline.slate_size if n is None else n
        if n < 1:
            raise UsageError(f"a slate of {n} items", "ask for at least one")
        context = Context(now=self.state.now) if context is None else context
        size = self.pipeline.batch_size

        def serve(start: int) -> SlateBatch:
            rows = slice(start, start + size)
            ready = None if hydrated is None else hydrated.rows(rows)
            return self._serve(users[rows], n, context.rows(rows), keep_sourced, request, ready)

        starts = range(0, max(len(users), 1), size)
        with one_blas_thread():
            if self.threads > 1 and len(starts) > 1:
                # numpy and onnxruntime let go of the interpreter in every step that takes long
                with ThreadPoolExecutor(self.threads) as pool:
                    parts = list(pool.map(serve, starts))
            else:
                parts = [serve(start) for start in starts]
        return parts[0] if len(parts) == 1 else _concatenate(parts)

    def _serve(
        self, users: np.ndarray, n: int, context: Context, keep_sourced: bool, salt: int, ready: Candidates | None
    ) -> SlateBatch:
        started = time.perf_counter()
        query = Query(
            users=users,
            size=n,
            bundle=self.bundle,
            state=self.state,
            snapshot=self.snapshot,
            context=context,
            seed=self.seed,
            salt=salt,
            journal=[] if self.trace.recording else None,
        )
        runner = Runner(query, ready)
        if ready is None:
            sourced = runner.run(self.stages.sourcing)
            counts = runner.run(self.stages.filtering).counts
            ready = runner.run(self.stages.completion)
        else:
            sourced, counts = None, ready.counts
        ranked = runner.run(self.stages.ranking)
        final = runner.run(self.stages.selection)
        batch = SlateBatch(
            users=users,
            items=final.items,
            scores=final.scores,
            sources=final.sources,
            fallback=self._fallback(users, counts, n),
            funnel=runner.records,
            sourced=sourced if keep_sourced else None,
            ranked=ranked if keep_sourced else None,
            hydrated=ready if keep_sourced else None,
            request=uuid.uuid4().hex[:16],
        )
        self.trace.event(
            "slates",
            request=batch.request,
            users=len(users),
            user=self.bundle.user_ids.external(np.where(users[:1] < len(self.bundle.user_ids), users[:1], -1))[0],
            ms=round((time.perf_counter() - started) * 1e3, 3),
            stages=[{"stage": r.name, "in": r.before, "out": r.after, "ms": round(r.ms, 3)} for r in runner.records],
            fallback=sum(reason is not None for reason in batch.fallback),
            short=int((final.counts < n).sum()),
        )
        for actions in query.journal or ():
            self._log_safety(batch, actions)
        return batch

    def _log_safety(self, batch: SlateBatch, actions: Actions) -> None:
        if not len(actions.row) and not actions.unknown:
            return
        users = batch.users[actions.row]
        known = np.where(users < len(self.bundle.user_ids), users, -1)
        shown = (batch.items[actions.row] == actions.item[:, None]).any(axis=1)
        ids = self.bundle.item_ids.external(actions.item), self.bundle.user_ids.external(known)
        self.trace.event(
            "safety",
            request=batch.request,
            run=self.manifest.id if self.manifest else None,
            unknown=actions.unknown,
            models=self.bundle.safety.versions,
            **trace_fields(self.safety_rules, actions, *ids, shown),
        )

    def _fallback(self, users: np.ndarray, counts: np.ndarray, n: int) -> list[str | None]:
        known = np.maximum(users, 0)
        touched = np.diff(self.state.history.offsets)[known] + np.diff(self.state.follows.offsets)[known]
        reasons = np.where(users < 0, 1, np.where(touched == 0, 2, np.where(counts < n, 3, 0)))
        names = (None, UNKNOWN_USER, NO_HISTORY, FEW_CANDIDATES)
        return [names[r] for r in reasons]

    def position(self, user_id: int | str, *, fallback: bool = True) -> int:
        """Position of a user; an unknown one is -1, or raises UnknownIdError without `fallback`."""
        if self.guest is not None and user_id == GUEST:
            return self.guest
        position = self.bundle.user_ids.position(user_id)
        if position < 0 and not fallback:
            raise UnknownIdError(
                f"user {user_id!r} is not in the dataset", "leave out --no-fallback to get trending and popular items"
            )
        return position

    def context(self, values: Mapping[str, Any] | None, rows: int = 1) -> Context:
        """A request's context from names: `surface`, `device` (as in the data), `time` (ISO 8601), and the further
        columns of impressions that are features."""
        now, codes, more = self.state.now, {}, {}
        columns = self.bundle.spec.context_columns
        for key, value in (values or {}).items():
            if key == "time":
                now = _parse_time(value)
            elif columns.get(key) == "number":
                more[key] = np.full(rows, _parse_number(key, value), np.float32)
            elif key in ("surface", "device", *columns):
                names = self.bundle.catalogue.names.get(f"impression.{key}" if key in columns else key, [])
                if str(value) not in names:
                    close = nearest(str(value), names)
                    hint = (
                        f"did you mean {close!r}?" if close else f"known: {', '.join(names) or 'none in this dataset'}"
                    )
                    raise UsageError(f"context {key}={value!r} is not in the data", hint)
                code = names.index(str(value))
                if key in columns:
                    more[key] = np.full(rows, code, np.int32)
                else:
                    codes[key] = np.full(rows, code, np.int16)
            else:
                known = ", ".join(("surface", "device", "time", *columns))
                raise UsageError(f"unknown context key {key!r}", f"known keys: {known}")
        return Context(now=now, **codes, more=more)

    def recommend(
        self,
        user_id: int | str,
        num_results: int | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        fallback: bool = True,
        request: int = 0,
    ) -> Recommendations:
        """Slate of one user with its explanation; see `Recommendations`."""
        return next(self.recommend_many([user_id], num_results, context, fallback=fallback, request=request))

    def recommend_many(
        self,
        user_ids: Sequence[int | str],
        num_results: int | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        fallback: bool = True,
        request: int = 0,
    ) -> Iterator[Recommendations]:
        """Slates of several users, served in batches."""
        # as many at once as keep every thread busy
        size = self.pipeline.batch_size * max(self.threads, 1)
        for start in range(0, len(user_ids), size):
            ids = user_ids[start : start + size]
            positions = np.array([self.position(u, fallback=fallback) for u in ids], np.int32)
            batch = self.slates(positions, num_results, self.context(context, len(ids)), request=request)
            for row, user_id in enumerate(ids):
                yield describe_slate(self, batch, row, user_id)

    def recommend_from(
        self,
        history: Sequence[int | str],
        num_results: int | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        request: int = 0,
    ) -> Recommendations:
        """Slate for somebody who is not in the data, from the ids of items they engaged with, oldest first.

        Ids that the run does not know are ignored; the notes of the answer say how many.
        """
        return self.with_guest(history).recommend(GUEST, num_results, context, request=request)

    def with_guest(self, history: Sequence[int | str]) -> RecommendationEngine:
        """The same engine that also knows the user `GUEST`, by the ids of items they engaged with, oldest first."""
        items = self.bundle.item_ids.positions(list(history))
        known = items[items >= 0]
        people = self.state.catalogue.n_users
        ignored = len(items) - len(known)
        told = (f"{ignored} of {len(items)} ids of the history are unknown and ignored",) if ignored else ()
        return replace(
            self, state=with_guest(self.state, known), snapshot=GuestSnapshot(self.snapshot, people), guest=people,
            told=told,
        )


def _parse_number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise UsageError(f"context {key}={value!r} is not a number", f"write it as {key}=1.5")
    return number


def _parse_time(value: Any) -> int:
    try:
        moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise UsageError(f"context time={value!r} is not a time", "write it as 2026-01-31T18:00:00") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp() * 1_000_000)


def _concatenate(parts: list[SlateBatch]) -> SlateBatch:
    def funnel() -> list[StageRecord]:
        weight = np.array([len(p.users) for p in parts], float)
        weight /= weight.sum()
        return [
            StageRecord(
                records[0].name,
                float(np.dot(weight, [r.before for r in records])),
                float(np.dot(weight, [r.after for r in records])),
                sum(r.ms for r in records),
            )
            for records in zip(*(p.funnel for p in parts), strict=True)
        ]

    return SlateBatch(
        users=np.concatenate([p.users for p in parts]),
        items=np.concatenate([p.items for p in parts]),
        scores={n: np.concatenate([p.scores[n] for p in parts]) for n in parts[0].scores},
        sources=np.concatenate([p.sources for p in parts]),
        fallback=[f for p in parts for f in p.fallback],
        funnel=funnel(),
        sourced=_pad_together([p.sourced for p in parts]) if parts[0].sourced is not None else None,
        ranked=_pad_together([p.ranked for p in parts]) if parts[0].ranked is not None else None,
        hydrated=_pad_together([p.hydrated for p in parts], scores=True) if parts[0].hydrated is not None else None,
        request=parts[0].request,
    )


def _pad_together(parts: list[Candidates], *, scores: bool = False) -> Candidates:
    width = max(p.items.shape[1] for p in parts)

    def joined(arrays: list[np.ndarray], filler) -> np.ndarray:
        return np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=filler) for a in arrays])

    names = parts[0].scores if scores else ()
    return Candidates(
        joined([p.items for p in parts], -1),
        joined([p.sources for p in parts], 0),
        {name: joined([p.scores[name] for p in parts], 0) for name in names},
    )
