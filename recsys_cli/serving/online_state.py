"""OnlineState: what the engine knows now, brought forward by every event of the log.

Two speeds. `live` brings histories, seen items, edges, ties, counts and trends forward by what came since, and takes
new users and items in, within milliseconds; features are those of the last `refresh`. `refresh` builds the features
anew from the whole log, base and events, with the very definitions that training uses. Either way the outcome is what
a replay of the whole log gives (`tests/serving/test_law.py`).
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State, newest_by_author
from recsys_cli.errors import ArtifactError
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.safety.accounts import author_scores
from recsys_cli.serving.base_log import BaseLog
from recsys_cli.serving.erasure import emptied, marked_users
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.fold import Fold
from recsys_cli.serving.growth import Growth, grown
from recsys_cli.serving.live_snapshot import LiveSnapshot
from recsys_cli.serving.memory import Memories, Memory, MemoryStore
from recsys_cli.serving.rows import LogShape, edge_tables, joined, rows_as_log
from recsys_cli.serving.state_file import StateFile, load_state
from recsys_cli.serving.state_merge import bring_forward
from recsys_cli.slate_engine import SlateEngine

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

SETTLED_AT_ONCE = 20_000
"""Rows that can change no more after which they are taken into the state that others are brought forward from."""


@dataclass
class _Anchor:
    """A state as of some offset whose rows can change no more, and how many rows of the fold it holds."""

    state: State
    rows: int = 0


class OnlineState:
    """The engine of now. Every method may be called from any thread; one of them works at a time.

    Use `OnlineState.open`. Then `catch_up` whenever something was appended, `memory` in every request, `live` for the
    engine that makes slates, `refresh` every now and then in the background, `save` every now and then and at the end.
    """

    def __init__(
        self, folder: Path, engine: SlateEngine, log: EventLog, base: BaseLog | None, fold: Fold, memories: Memories
    ):
        self.folder, self.log, self.trained = folder, log, engine
        self.base, self.fold, self.memories = base, fold, memories
        self.rebuilt = False
        """the state file could not be used, and the state was made again from the log"""
        self._lock = threading.RLock()
        self._file = StateFile(folder / "state.db")
        self._shape = shape_of(engine, base)
        self._forgotten: tuple[int, np.ndarray] = (0, np.zeros(0, np.int32))
        self._described = 0
        self._published: tuple[Catalogue, int, Ragged] | None = None
        self._features: tuple[Snapshot, dict] | None = None
        self._growth: tuple[tuple, Growth] | None = None
        self._engine: tuple[tuple, SlateEngine] | None = None
        self._anchor = self._first_anchor()

    @classmethod
    def open(
        cls, folder: str | os.PathLike, engine: SlateEngine, log: EventLog, *, dataset: Dataset | None = None,
        memories: Memories | None = None,
    ) -> OnlineState:
        """The state beside a log, as it was last saved and then caught up with the log.

        engine: of the run that is served, as trained. dataset: the `Dataset` of that run, whose log is copied into the
        folder the first time; without it, and without a copy, features stay as of training (`can_refresh` is False).
        memories: those shared by several servers; of this process alone where None.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        base = _base_of(folder, engine, dataset)
        actions = shape_of(engine, base).actions
        file = StateFile(folder / "state.db")
        kept = load_state(file, actions)
        rebuilt = kept is None and file.path.exists()
        if rebuilt:
            file.put_aside()
        if kept is not None and max(kept[0].offset, kept[1].offset()) > log.last_offset:
            kept = None  # of another log
        fold, own = kept or (Fold(actions), MemoryStore())
        out = cls(folder, engine, log, base, fold, own if memories is None else memories)
        out.rebuilt = rebuilt
        out.catch_up()
        return out

    @property
    def offset(self) -> int:
        """How far the log has been taken in."""
        return self.fold.offset

    @property
    def can_refresh(self) -> bool:
        """Whether features can be counted anew: the log that the run was trained on is at hand."""
        return self.base is not None

    def catch_up(self, most: int | None = None) -> int:
        """Take in what the log holds beyond `offset`, at most so many events; how many there were."""
        taken = 0
        with self._lock:
            while most is None or taken < most:
                after = min(self.fold.offset, self.memories.offset())
                entries = self.log.read(after, 5000 if most is None else min(5000, most - taken))
                if not entries:
                    break
                self.memories.take(entries)
                self.fold.take(entries)
                taken += len(entries)
        return taken

    def memory(self, user_id: str) -> Memory:
        """What is remembered of a person; see `Memory`. An empty one of a stranger. It is not to be changed."""
        return self.memories.of(user_id)

    def live(self, now: int | None = None) -> SlateEngine:
        """The engine with the state of `now` (µs; by default the clock), features as of the last `refresh`.

        The same engine is given again while nothing happened and less than a second has passed.
        """
        with self._lock:
            moment = self._moment(now)
            version = (self.fold.offset, self._features is None or self._features[0].now)
            if self._engine is not None and self._engine[0] == version:
                held = self._engine[1]
                if held.state.now == moment or (now is None and moment - held.state.now < 1_000_000):
                    return held
            growth = self._grown(moment)
            state = self._state(growth, moment)
            snapshot, authors = self._features or (self.trained.bundle.snapshot, {})
            catalogue = _with_author_scores(state.catalogue, authors)
            bundle = replace(growth.bundle, catalogue=catalogue)
            engine = replace(
                self.trained, bundle=bundle, state=replace(state, catalogue=catalogue),
                snapshot=LiveSnapshot(snapshot),
            )
            self._engine = (version, engine)
            return engine

    def refresh(self, now: int | None = None) -> SlateEngine:
        """The engine with state and features as of `now` (µs; by default the clock), counted over the whole log.

        Takes time in proportion to the log; `live` goes on with these features. Where the log that the run was trained
        on is not at hand, it is `live`.
        """
        with self._lock:
            moment = self._moment(now)
            if self.base is None:
                return self.live(now)
            growth = self._grown(moment)
            catalogue, spec = growth.bundle.catalogue, growth.bundle.spec
            whole, edges = self.whole_log(growth), edge_tables(self.fold, growth, moment)
            base = self._base()
            follows, blocks = joined(base.follows, edges.follows), joined(base.blocks, edges.blocks)
        snapshot = Snapshot.build(spec, catalogue, whole, moment, follows, blocks)
        authors = author_scores(catalogue, whole, moment, growth.bundle.safety, follows, blocks)
        with self._lock:
            self._features = (snapshot, authors)
            return self.live(moment if now is not None else None)

    def whole_log(self, growth: Growth | None = None) -> Log:
        """The log that the run was trained on and the rows of the events, in the positions of `growth.bundle`."""
        growth = growth or self._grown(self._moment(None))
        rows = rows_as_log(self.fold, growth, self._shape)
        return rows if self.base is None else Log.concat(self._base().log, rows)

    def erase(self, user_id: str) -> int:
        """Forget a person: their events, their memory and their rows; how many events there were."""
        with self._lock:
            count = self.log.erase(user_id)
            self.memories.forget(user_id)
            self.catch_up()
            self.save()
            self._engine = None
            return count

    def save(self) -> None:
        """Keep the state for the next start: the offset and all it stands for in one transaction."""
        with self._lock:
            parts = {"fold": (self.fold.offset, self.fold.to_bytes())}
            own = self.memories if isinstance(self.memories, MemoryStore) else MemoryStore()
            parts["memories"] = (own.offset(), own.to_bytes())
            self._file.write(parts)

    def _moment(self, now: int | None) -> int:
        """`now`, or the clock; never before what the state holds already."""
        clock = time.time_ns() // 1000 if now is None else now
        return max(clock, self._anchor.state.now) if now is not None else max(
            clock, self._anchor.state.now, self.fold.latest + 1
        )

    def _grown(self, now: int) -> Growth:
        fold = self.fold
        version = (len(fold.names["users"]), fold.described, len(fold.edges), len(fold.erased))
        if self._growth is None or self._growth[0] != version:
            self._growth = (version, grown(self.trained.bundle, fold, now))
        growth, items = self._growth[1], fold.names["items"].listed
        if len(growth.items) != len(items):  # names of items that nobody has described
            growth = replace(growth, items=growth.bundle.item_ids.positions(items))
            self._growth = (version, growth)
        return growth

    def _state(self, growth: Growth, now: int) -> State:
        """The state at `now`, the anchor moved up to the rows that are settled."""
        self._forget()
        catalogue, anchor, fold = growth.bundle.catalogue, self._anchor, self.fold
        edges = edge_tables(fold, growth, now)
        settled = fold.settled_rows
        if settled - anchor.rows >= SETTLED_AT_ONCE:
            moment = max(anchor.state.now, fold.settled_before)
            rows = rows_as_log(fold, growth, self._shape, anchor.rows, settled)
            published = self._author_items(catalogue, moment)
            anchor = _Anchor(bring_forward(anchor.state, rows, moment, catalogue, published), settled)
            self._anchor = anchor
        rows = rows_as_log(fold, growth, self._shape, anchor.rows)
        published = self._author_items(catalogue, now)
        changes = edges.follow_change, edges.block_change
        state = bring_forward(anchor.state, rows, now, catalogue, published, *changes)
        return replace(
            state, trending=state.trending.astype(np.float32),
            tie_strength=Ragged(state.tie_strength.offsets, state.tie_strength.values.astype(np.float32)),
        )

    def _author_items(self, catalogue: Catalogue, now: int) -> Ragged:
        """Items by author, newest first; made anew where something was published."""
        held, created = self._published, catalogue.item_created
        if held is None or held[0] is not catalogue or held[1] > now or ((created >= held[1]) & (created < now)).any():
            held = (catalogue, now, newest_by_author(catalogue, now))
        self._published = (catalogue, now, held[2])
        return held[2]

    def _base(self) -> BaseLog:
        return self.base.without(self._forgotten[1])

    def _first_anchor(self) -> _Anchor:
        bundle, state = self.trained.bundle, self.trained.bundle.state
        gone = self._forgotten[1]
        if self.base is not None:
            base = self._base()
            end = int(self.base.log.time[-1]) + 1 if len(self.base.log) else state.now
            if end != state.now or len(gone):
                state = State.build(bundle.catalogue, base.log, end, base.follows, base.blocks)
        elif len(gone):
            state = emptied(state, gone)
        strength = Ragged(state.tie_strength.offsets, state.tie_strength.values.astype(np.float64))
        return _Anchor(replace(state, trending=state.trending.astype(np.float64), tie_strength=strength))

    def _forget(self) -> None:
        """Begin again without the people whom the log says to forget, where somebody was forgotten since."""
        marks = self.fold.erased
        if len(marks) != self._forgotten[0]:
            self._forgotten = (len(marks), marked_users(self.trained.bundle.user_ids, set(marks)))
            self._anchor = self._first_anchor()
        if self._described != len(self.fold.items):
            # rows that waited for a description may stand among those that the anchor passed over
            self._described = len(self.fold.items)
            if self._anchor.rows:
                self._anchor = self._first_anchor()


def shape_of(engine: SlateEngine, base: BaseLog | None) -> LogShape:
    """The columns that rows of events have beside those that a run was trained on."""
    spec = engine.bundle.spec
    return LogShape.plain(spec.positive, spec.negative) if base is None else LogShape.of(base.log)


def _base_of(folder: Path, engine: SlateEngine, dataset: Dataset | None) -> BaseLog | None:
    """The log that a run was trained on: the copy in the folder, or that of the dataset, copied for the next start."""
    digest = None if engine.manifest is None else engine.manifest.dataset.digest
    if dataset is not None and digest not in (None, dataset.manifest.digest):
        dataset = None  # other rows than those that the run was trained on
    digest = digest or (None if dataset is None else dataset.manifest.digest)
    path = folder / f"base-{digest}.arrays"
    if digest is not None and path.is_file():
        try:
            return BaseLog.load(path)
        except ArtifactError:
            path.unlink(missing_ok=True)
    if dataset is None:
        return None
    BaseLog.of(dataset).save(path)
    for old in folder.glob("base-*.arrays"):
        if old != path:
            old.unlink(missing_ok=True)
    return BaseLog.load(path)


def _with_author_scores(catalogue: Catalogue, scores: dict[str, np.ndarray]) -> Catalogue:
    """The catalogue with scores of its authors as they were last counted, NaN for those that came since."""
    if not scores:
        return catalogue
    filler = {task: np.full(catalogue.n_authors - len(v), np.nan, np.float32) for task, v in scores.items()}
    return replace(catalogue, author_safety={task: np.append(v, filler[task]) for task, v in scores.items()})
