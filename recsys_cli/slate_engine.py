"""SlateEngine: a bundle and a pipeline, from the positions of users to slates."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from recsys_cli.artifacts.runs import RunManifest, RunStore
from recsys_cli.data.state import State
from recsys_cli.errors import UnknownIdError, UsageError
from recsys_cli.features.context import Context
from recsys_cli.features.snapshot import ServedFeatures, Snapshot
from recsys_cli.parallel import one_blas_thread
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.bundle import Bundle, read_bundle
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.exploration.creative_texts import CHOSEN, fed_back
from recsys_cli.pipeline.exploration.rewards import any_of, with_feedback
from recsys_cli.pipeline.guest import GuestSnapshot, with_guest
from recsys_cli.pipeline.onboarding import attribute_codes, topic_candidates, topic_codes
from recsys_cli.pipeline.order import Order
from recsys_cli.pipeline.order_scores import resolve_order
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.request_context import context_of
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.utility import weights_of
from recsys_cli.safety.accounts import author_scores
from recsys_cli.safety.policy import Actions, SafetyRules, trace_fields
from recsys_cli.slate_batch import SlateBatch, concatenated, ranks_of
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
class SlateEngine:
    """Makes slates from one run. Cheap to copy: `with_pipeline` and `as_of` share the models.

    Raises ArtifactError where the run cannot be used and ConfigError where the pipeline's settings name
    something that is not there.
    """

    bundle: Bundle
    pipeline: PipelineConfig
    manifest: RunManifest | None = None
    state: State | None = None
    """the moment served; the bundle's own where None"""
    snapshot: ServedFeatures | None = None
    seed: int = 0
    threads: int = 1
    """batches served at once where there are several"""
    guest: int | None = None
    """position of the user `GUEST` where there is one (`with_guest`)"""
    topics: tuple[int, ...] = ()
    """codes of the topics that the user `GUEST` chose; they bring candidates where there is no history"""
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
    ) -> Self:
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
    def moment(self) -> tuple[State, ServedFeatures]:
        """What slates are made from, as of one moment."""
        assert self.state is not None and self.snapshot is not None  # the bundle's own where none was given
        return self.state, self.snapshot

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

    def with_pipeline(self, pipeline: PipelineConfig) -> Self:
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
    ) -> Self:
        """The same models at another moment: state and features from the rows of `log` before `now` (µs).

        catalogue: the bundle's with items appended. follows, blocks: edges as `Dataset.edges` gives them.
        """
        if catalogue is not None and catalogue.n_items != self.bundle.catalogue.n_items:
            for retriever in self.bundle.retrievers.values():
                retriever.adapt(catalogue)
        catalogue = self.bundle.catalogue if catalogue is None else catalogue
        authors = author_scores(catalogue, log, now, self.bundle.safety, follows, blocks)
        catalogue = replace(catalogue, author_safety=authors)
        state = replace(State.build(catalogue, log, now, follows, blocks), feedback=self.state.feedback)
        snapshot = Snapshot.build(self.bundle.spec, catalogue, log, now, follows, blocks)
        return replace(self, state=state, snapshot=snapshot)

    def learn(self, batch: SlateBatch, actions: Mapping[str, np.ndarray], dwell: np.ndarray | None = None) -> Self:
        """The same engine, whose exploration knows what came of slates that it served.

        actions: name → bool[B, n] beside `batch.items`; dwell: float[B, n] seconds, NaN where unknown. The log is not
        touched: histories and counts follow it by `as_of`, which keeps what was learned here.
        """
        spec = self.bundle.spec
        weights = weights_of(self.pipeline.utility, self.bundle.proposed_weights)
        state = with_feedback(
            self.state, batch.users, batch.items, batch.scores["utility"], actions, dwell, weights, spec.positive,
            self.bundle.negative_actions,
        )
        if CHOSEN in batch.scores and self.bundle.creatives is not None:
            shown, taken = batch.items >= 0, any_of(actions, spec.positive, batch.items.shape)
            told = batch.items[shown], batch.scores[CHOSEN][shown], taken[shown]
            state = replace(state, feedback=fed_back(state.feedback, self.bundle.creatives, *told))
        return replace(self, state=state)

    def query(
        self, users: np.ndarray, n: int | None = None, context: Context | None = None, *, request: int = 0,
        without: frozenset[str] = frozenset(),
    ) -> Query:
        """What stages are asked for a batch of user positions; failures are raised. Arguments as of `slates`."""
        n = self.pipeline.slate_size if n is None else n
        if n < 1:
            raise UsageError(f"a slate of {n} items", "ask for at least one")
        return Query(
            users=np.asarray(users, np.int32),
            size=min(n, max(self.state.catalogue.n_items, self.pipeline.slate_size)),
            bundle=self.bundle,
            state=self.state,
            snapshot=self.snapshot,
            context=Context(now=self.state.now) if context is None else context,
            seed=self.seed,
            salt=request,
            journal=[] if self.trace.recording else None,
            without=without,
        )

    def slates(
        self,
        users: np.ndarray,
        n: int | None = None,
        context: Context | None = None,
        *,
        keep_sourced: bool = False,
        request: int = 0,
        hydrated: Candidates | None = None,
        without: Iterable[str] = (),
        adventure: float | None = None,
        served: np.ndarray | None = None,
        ranks: bool = False,
    ) -> SlateBatch:
        """Slates for a batch of user positions (int32[B], -1 for somebody unknown).

        context: of the requests (rows as users). request: salt of exploration. hydrated: what goes into ranking, as an
        engine with the same sources and filters kept it for these users; the stages before it are not run again.
        without: names of stages to leave out. adventure: from -1, familiar, to 1, adventurous. served: int32 positions
        of items that must not come again. Both need a stage that reads them. ranks: whether to tell what each stage
        did to the place of each item (`SlateBatch.ranks`). Users are served `pipeline.batch_size` at a time.

        keep_sourced: keep what was sourced, hydrated and ranked as well, for whoever measures. A source, hydrator or
        side effect that raises is left out and told in `SlateBatch.failures`, but raised where somebody measures.
        """
        users = np.asarray(users, np.int32)
        context = Context(now=self.state.now) if context is None else context
        left_out = self.stages.without(frozenset(without))
        self.stages.require(adventure=adventure, served=served)
        size = self.pipeline.batch_size

        def serve(start: int) -> SlateBatch:
            rows = slice(start, start + size)
            ready = None if hydrated is None else hydrated.rows(rows)
            query = self.query(users[rows], n, context.rows(rows), request=request, without=left_out)
            kept: list | None = None if keep_sourced else []
            brief = not keep_sourced
            query = replace(query, adventure=adventure, served=served, failures=kept, remarks={}, brief=brief)
            return self._serve(query, ready, keep_sourced, ranks)

        starts = range(0, max(len(users), 1), size)
        with one_blas_thread():
            if self.threads > 1 and len(starts) > 1:
                from concurrent.futures import ThreadPoolExecutor

                # numpy and onnxruntime let go of the interpreter in every step that takes long
                with ThreadPoolExecutor(self.threads) as pool:
                    parts = list(pool.map(serve, starts))
            else:
                parts = [serve(start) for start in starts]
        return parts[0] if len(parts) == 1 else concatenated(parts)

    def _serve(self, query: Query, ready: Candidates | None, keep_sourced: bool, ranks: bool) -> SlateBatch:
        started = time.perf_counter()
        chosen = None if ready is not None or not self.topics else self.of_topics(query)
        runner = Runner(query, chosen if ready is None else ready, keep=ranks)
        if ready is None:
            # what somebody chose is not diluted with what is popular elsewhere
            sourced = runner.candidates if chosen is not None else runner.run(self.stages.sourcing)
            counts = runner.run(self.stages.filtering).counts
            ready = runner.run(self.stages.completion)
        else:
            sourced, counts = None, ready.counts
        ranked = runner.run(self.stages.ranking)
        final = runner.run(self.stages.selection)
        batch = SlateBatch(
            users=query.users,
            items=final.items,
            scores=final.scores,
            sources=final.sources,
            fallback=self._fallback(query.users, counts, query.size),
            funnel=runner.records,
            sourced=sourced if keep_sourced else None,
            ranked=ranked if keep_sourced else None,
            hydrated=ready if keep_sourced else None,
            request=uuid.uuid4().hex[:16],
            failures=query.failures or [],
            remarks=query.remarks or {},
            ranks=ranks_of(runner.kept, self.stages.ranking + self.stages.selection, final.items) if ranks else {},
        )
        self._log(batch, query, (time.perf_counter() - started) * 1e3)
        return batch

    def of_topics(self, query: Query) -> Candidates | None:
        """Candidates of the topics that the guest chose; None where a history, or nothing on the topics, says more."""
        if len(query) != 1 or query.users[0] != self.guest or query.known[0]:
            return None
        found = topic_candidates(self.state, np.array(self.topics, np.int32), self.source_names)
        return found if found.items.size else None

    def _log(self, batch: SlateBatch, query: Query, ms: float) -> None:
        if not self.trace.recording:
            return
        users = batch.users[:1]
        self.trace.event(
            "slates",
            request=batch.request,
            users=len(query),
            user=self.bundle.user_ids.external(np.where(users < len(self.bundle.user_ids), users, -1))[0],
            ms=round(ms, 3),
            stages=[{"stage": r.name, "in": r.before, "out": r.after, "ms": round(r.ms, 3)} for r in batch.funnel],
            without=sorted(query.without),
            failures=[{"part": f.part, "error": f.error} for f in batch.failures],
            fallback=sum(reason is not None for reason in batch.fallback),
            short=int((batch.items < 0).any(axis=1).sum()),
        )
        for actions in query.journal or ():
            self._log_safety(batch, actions)

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
        touched = self.state.history.counts(users) + self.state.follows.counts(users)
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
        """A request's context from names; see `context_of`."""
        spec, names = self.bundle.spec, self.bundle.catalogue.names
        return context_of(values, spec.context_columns, names, self.state.now, rows)

    def with_guest(
        self, history: Sequence[int | str], topics: Sequence[str] = (), attributes: Mapping[str, str] | None = None
    ) -> Self:
        """The same engine that also knows the user `GUEST`, by the ids of items they engaged with, oldest first, by the
        topics that they chose, and by values of attributes that users have."""
        items = self.bundle.item_ids.positions(list(history))
        known = items[items >= 0]
        catalogue = self.state.catalogue
        people, ignored = catalogue.n_users, len(items) - len(known)
        told = (f"{ignored} of {len(items)} ids of the history are unknown and ignored",) if ignored else ()
        state = with_guest(self.state, known, attribute_codes(catalogue, attributes or {}))
        chosen = tuple(topic_codes(catalogue, topics).tolist()) if topics else ()
        return replace(
            self, state=state, snapshot=GuestSnapshot(self.snapshot, people), guest=people, topics=chosen, told=told,
        )

    def path(self, user: int) -> str:
        """What an answer for a user position stands on: "history", "fold-in of n items", "topics", "follows",
        "attributes" or "popularity"."""
        if user < 0:
            return "popularity"
        state, length = self.state, len(self.state.history[user])
        if length:
            return f"fold-in of {length} item{'s' if length > 1 else ''}" if user == self.guest else "history"
        if user == self.guest and self.topics:
            return "topics"
        if len(state.follows[user]):
            return "follows"
        segments = any(source.config.kind == "segment_trending" for source in self.bundle.retrievers.values())
        known = any(codes[user] >= 0 for codes in state.catalogue.user_codes.values())
        return "attributes" if segments and known else "popularity"
