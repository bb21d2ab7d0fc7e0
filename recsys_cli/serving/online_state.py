"""OnlineState: what the engine knows now, brought forward by every event of the log.

Two speeds. `live` brings histories, seen items, edges, ties, counts and trends forward by what came since, and takes
new users and items in, within milliseconds; features are those of the last `refresh`. `refresh` builds the features
anew from the whole log, base and events, with the very definitions that training uses. Either way the outcome is what
a replay of the whole log gives (`tests/serving/test_law.py`).
"""

from __future__ import annotations

import os
import sqlite3
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
from recsys_cli.errors import ArtifactError, DataError, RecsysError
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.safety.accounts import author_scores
from recsys_cli.serving.base_log import BaseLog
from recsys_cli.serving.erasure import emptied, marked_users
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.fold import Fold
from recsys_cli.serving.growth import Growth, grown
from recsys_cli.serving.live_snapshot import LiveSnapshot
from recsys_cli.serving.memory import Memories, Memory, MemoryStore
from recsys_cli.serving.rows import EdgeTables, LogShape, edge_tables, joined, rows_as_log
from recsys_cli.serving.segments import Sealed, Segments
from recsys_cli.serving.state_file import StateFile
from recsys_cli.serving.state_merge import bring_forward
from recsys_cli.slate_engine import SlateEngine

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

SETTLED_AT_ONCE = 20_000
"""Rows that can change no more after which they are taken into the state that others are brought forward from."""

CHANGES_AT_ONCE = 100
"""Memories that are written while nothing can be taken in."""
FRESH = 1_000_000
"""µs for which `live` gives the same engine again where nothing happened."""


@dataclass
class _Anchor:
    """A state as of some offset whose rows can change no more, and how many rows of the fold it holds."""

    state: State
    rows: int = 0


class OnlineState:
    """The engine of now. Every method may be called from any thread.

    Use `OnlineState.open`. Then `catch_up` whenever something was appended, which waits for no engine that is being
    made; `memory` in every request; `live` for the engine that makes slates; `refresh` every now and then in the
    background; `save` and `seal` every now and then, `save` at the end.
    """

    def __init__(
        self, folder: Path, engine: SlateEngine, log: EventLog, base: BaseLog | None, fold: Fold, memories: Memories
    ):
        self.folder, self.log, self.trained = folder, log, engine
        self.base, self.fold, self.memories = base, fold, memories
        self.rebuilt = False
        """the state file could not be used, and the state was made again from the log"""
        self._lock, self._build, self._saving = threading.RLock(), threading.RLock(), threading.Lock()
        self._sealing = threading.Lock()
        self._file = StateFile(folder / "state.db")
        self.segments = Segments(log.folder)
        self._shape = shape_of(engine, base)
        self._forgotten: tuple[int, np.ndarray] = (0, np.zeros(0, np.int32))
        self._described = 0
        self._next = (0, 0)
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
        actions, start = shape_of(engine, base).actions, _start_of(engine, base)
        file = StateFile(folder / "state.db")
        kept = file.read()
        rebuilt = kept is None and file.path.exists()
        if kept is not None and max(kept[0].offset, kept[1].offset()) > log.last_offset:
            kept = None  # of another log
        if kept is None:
            file.put_aside()
        fold, own = kept or (Fold(actions, start), MemoryStore())
        if (fold.actions, fold.start) != (actions, start):  # of another run
            fold = Fold(actions, start)
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

        The same engine is given again while nothing happened and less than a second has passed. Events are taken in
        meanwhile.
        """
        with self._build:
            with self._lock:
                moment = self._moment(now)
                version = (self.fold.offset, self._features is None or self._features[0].now)
                if self._engine is not None and self._engine[0] == version:
                    held = self._engine[1]
                    if held.state.now == moment or (now is None and moment - held.state.now < FRESH):
                        return held
                growth = self._grown(moment)
                settled, rows, edges = self._news(growth, moment)
            state = self._state(growth, moment, settled, rows, edges)
            snapshot, authors = self._features or (self.trained.bundle.snapshot, {})
            catalogue = _with_author_scores(state.catalogue, authors)
            engine = replace(
                self.trained, bundle=replace(growth.bundle, catalogue=catalogue),
                state=replace(state, catalogue=catalogue), snapshot=LiveSnapshot(snapshot),
            )
            self._engine = (version, engine)
            return engine

    def refresh(self, now: int | None = None) -> SlateEngine:
        """The engine with state and features as of `now` (µs; by default the clock), counted over the whole log.

        Takes time in proportion to the log, during which events are taken in and `live` answers; `live` goes on with
        these features. Where the log that the run was trained on is not at hand, it is `live`.
        """
        if self.base is None:
            return self.live(now)
        with self._build, self._lock:
            moment = self._moment(now)
            growth = self._grown(moment)
            self._forget()
            rows, edges = rows_as_log(self.fold, growth, self._shape), edge_tables(self.fold, growth, moment)
            base = self._base()
        whole = Log.concat(base.log, rows)
        catalogue, spec = growth.bundle.catalogue, growth.bundle.spec
        follows, blocks = joined(base.follows, edges.follows), joined(base.blocks, edges.blocks)
        snapshot = Snapshot.build(spec, catalogue, whole, moment, follows, blocks)
        authors = author_scores(catalogue, whole, moment, growth.bundle.safety, follows, blocks)
        with self._build, self._lock:
            self._features = (snapshot, authors)
        return self.live(moment if now is not None else None)

    def follow(self, engine: SlateEngine, *, dataset: Dataset | None = None) -> None:
        """Stand on another run from now on; its arguments as of `open`. Events are taken in meanwhile, and folded anew
        where the run has other actions, or was trained on some of them."""
        base = _base_of(self.folder, engine, dataset)
        actions, start = shape_of(engine, base).actions, _start_of(engine, base)
        fold = None if (self.fold.actions, self.fold.start) == (actions, start) else Fold(actions, start)
        if fold is not None:
            self._fold_on(fold)
        with self._build, self._lock:
            if fold is not None:
                self._fold_on(fold)
                self.fold = fold
            self.trained, self.base, self._shape = engine, base, shape_of(engine, base)
            self._forgotten, self._described, self._next = (0, np.zeros(0, np.int32)), 0, (0, 0)
            self._published = self._features = self._growth = self._engine = None
            self._anchor = self._first_anchor()

    def _fold_on(self, fold: Fold) -> None:
        while entries := self.log.read(fold.offset, 5000):
            fold.take(entries)

    def erase(self, user_id: str) -> int:
        """Forget a person: their events, their memory, their rows and segments; how many events there were."""
        with self._build:
            count = self.log.erase(user_id)
            with self._lock:
                self.memories.forget(user_id)
                self.catch_up()
                self._engine = self._features = None
            self._file.drop_damaged()
            self.save()
        if self.segments.paths():
            self.seal()
        return count

    def seal(self) -> Sealed:
        """Write the segments that are due, and those that are damaged anew. Holds nobody up: what is settled stays."""
        with self._sealing:
            return self.segments.seal(self.fold)

    def save(self) -> None:
        """Keep the state for the next start: the offset and all it stands for in one transaction."""
        with self._saving:
            own = self.memories if isinstance(self.memories, MemoryStore) else MemoryStore()
            changes = self._most_changes(own)
            with self._lock:  # what changed meanwhile is written as it is now
                changes |= own.changes()
                fold, offset = self.fold.copy(), own.offset()
            try:
                self._file.write(fold, changes, offset)
            except sqlite3.Error as error:
                with self._lock:
                    own.unsaved(changes)
                raise RecsysError(f"{self._file.path} cannot be written: {error}", "the log holds everything") from None

    def _most_changes(self, own: MemoryStore) -> dict[str, bytes | None]:
        """Memories that changed, a few at a time, so that events are taken in between."""
        changes: dict[str, bytes | None] = {}
        while True:
            with self._lock:
                part = own.changes(CHANGES_AT_ONCE)
            changes |= part
            if len(part) < CHANGES_AT_ONCE or len(changes) > own.most:
                return changes
            time.sleep(0)  # to whoever waits

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

    def _news(self, growth: Growth, now: int) -> tuple[Log | None, Log, EdgeTables]:
        """Rows that the anchor is to take up (None for too few), the others that came after it, and the edges."""
        self._forget()
        fold, anchor = self.fold, self._anchor
        first, settled = anchor.rows, None
        if fold.settled_rows - anchor.rows >= SETTLED_AT_ONCE:
            first = fold.settled_rows
            settled = rows_as_log(fold, growth, self._shape, anchor.rows, first)
            moment = max(anchor.state.now, fold.settled_before)
            self._next = (moment, first)
        return settled, rows_as_log(fold, growth, self._shape, first), edge_tables(fold, growth, now)

    def _state(
        self, growth: Growth, now: int, settled: Log | None, rows: Log, edges: EdgeTables
    ) -> State:
        """The state at `now`, the anchor moved up to the rows that are settled."""
        catalogue = growth.bundle.catalogue
        if settled is not None:
            moment, held = self._next
            published = self._author_items(catalogue, moment)
            state = bring_forward(self._anchor.state, settled, moment, catalogue, published)
            self._anchor = _Anchor(state, held)
        published = self._author_items(catalogue, now)
        changes = edges.follow_change, edges.block_change
        state = bring_forward(self._anchor.state, rows, now, catalogue, published, *changes)
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


def _start_of(engine: SlateEngine, base: BaseLog | None) -> int:
    """Offset up to which events are among the rows that a run was trained on."""
    if engine.manifest is not None:
        return engine.manifest.dataset.events
    return 0 if base is None else base.offset


def _base_of(folder: Path, engine: SlateEngine, dataset: Dataset | None) -> BaseLog | None:
    """The log that a run was trained on: the copy in the folder, or that of the dataset, copied for the next start."""
    digest = None if engine.manifest is None else engine.manifest.dataset.digest
    if dataset is not None and digest not in (None, dataset.manifest.digest):
        dataset = dataset_of(engine)  # other rows than those that the run was trained on
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


def dataset_of(engine: SlateEngine) -> Dataset | None:
    """The dataset that a run was trained on, where it is still in its place."""
    from recsys_cli.data.dataset import Dataset

    try:
        found = Dataset.open(engine.manifest.dataset.path)
    except DataError:
        return None
    return found if found.manifest.digest == engine.manifest.dataset.digest else None


def _with_author_scores(catalogue: Catalogue, scores: dict[str, np.ndarray]) -> Catalogue:
    """The catalogue with scores of its authors as they were last counted, NaN for those that came since."""
    if not scores:
        return catalogue
    filler = {task: np.full(catalogue.n_authors - len(v), np.nan, np.float32) for task, v in scores.items()}
    return replace(catalogue, author_safety={task: np.append(v, filler[task]) for task, v in scores.items()})
