"""RecommendationEngine: what the terminal, evaluation, experiments and serving use, and what Python programs import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from recsys_cli.answers.data import AnswerData
from recsys_cli.answers.slate import Recommendations, describe_slate
from recsys_cli.pipeline.since import Since, with_since
from recsys_cli.slate_engine import GUEST, SlateEngine

if TYPE_CHECKING:
    from recsys_cli.answers.accounts import Accounts
    from recsys_cli.answers.export import Advance, RowFormat, Rows, Written
    from recsys_cli.answers.reach import Reach
    from recsys_cli.answers.rows import Page
    from recsys_cli.answers.similar import Similar
    from recsys_cli.answers.why_not import WhyNot
    from recsys_cli.progress import Progress
    from recsys_cli.serving.event_log import EventLog
    from recsys_cli.settings import Settings
    from recsys_cli.slate_batch import SlateBatch


EVENTS = "events"
"""Folder of the log of events within the artifacts."""


@dataclass(frozen=True)
class RecommendationEngine(SlateEngine):
    """Recommends from one run, by the ids of its owner and in words; see `SlateEngine` for how slates are made."""

    artifacts: Path | None = None
    """where the run lies, and the log of what is recorded"""
    recorded: dict[int, Since] = field(default_factory=dict, compare=False, repr=False)
    """what users did since they were recorded, by their position; shared by all copies of the engine"""
    _logs: list[EventLog] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def load(cls, artifacts: str | Path = "artifacts", *given: Any, **options: Any) -> Self:
        """Open a run (the current one by default); see `SlateEngine.load`."""
        engine = super().load(artifacts, *given, **options)
        object.__setattr__(engine, "artifacts", Path(artifacts))
        return engine

    @classmethod
    def train_models(cls, settings: Settings, **options: Any) -> Self:
        """Train on the dataset of the settings, publish the run and open it; options: as of `training.train`."""
        from recsys_cli.training import train

        return cls.load(settings.paths.artifacts, train(settings, **options).id)

    def record_interaction(
        self, user_id: int | str, item_id: int | str, interaction_type: str, dwell_time: float | None = None,
        **more: Any,
    ) -> None:
        """Write what somebody did to the log of events; it counts in the next slate of this engine.

        interaction_type: an action of the data, or impression, dwell, rating, see_less. dwell_time: seconds. more:
        request_id, position, surface, … as `serving.events.Event` has them. It is on the disk when this returns, and
        `recsys train --events` learns from it. Raises UsageError for an event that is refused and LogInUse where a
        server has the log: send it to the server then (`recsys_cli.serving.client`).
        """
        from importlib.util import find_spec

        from recsys_cli.errors import UsageError

        if find_spec("msgspec") is None:
            raise UsageError("the log of events needs msgspec", "run `pip install 'recsys-cli[serve]'`")
        from recsys_cli.serving.event_log import EventLog
        from recsys_cli.serving.events import Event, EventRules

        if self.artifacts is None:
            raise UsageError("this engine was not loaded from artifacts, which hold the log", "use `load`")
        if not self._logs:
            spec = self.bundle.spec
            rules = EventRules(
                actions=(*spec.positive, *spec.negative), integer_users=not self.bundle.user_ids.is_text,
                integer_items=not self.bundle.item_ids.is_text,
            )
            self._logs.append(EventLog.open(self.artifacts / EVENTS, rules))
        told = Event(interaction_type, user_id, item_id, dwell_seconds=dwell_time, **more)
        receipt = self._logs[0].append([told])
        if receipt.rejected:
            raise UsageError(f"{interaction_type} of {user_id!r}: {receipt.rejected[0].reason}")
        user, item = self.bundle.user_ids.position(user_id), self.bundle.item_ids.position(item_id)
        if user >= 0 and item >= 0:
            self._remember(user, item, interaction_type)

    def _remember(self, user: int, item: int, action: str) -> None:
        before, author = self.recorded.get(user, Since()), int(self.bundle.catalogue.item_author[item])
        liked = (item,) if action in self.bundle.spec.positive else ()
        authors = (author,) if author >= 0 else ()
        self.recorded[user] = Since(
            history=(*before.history, *liked),
            seen=(*before.seen, item),
            follows=before.follows + (authors if action == "follow" else ()),
            blocked=before.blocked + (authors if action in ("block", "mute") else ()),
        )

    def close(self) -> None:
        """Let go of the log of events."""
        while self._logs:
            self._logs.pop().close()

    @property
    def answer_data(self) -> AnswerData:
        """What answers of this engine are made of, beside its slates."""
        rules, manifest = self.safety_rules, self.manifest
        return AnswerData(
            bundle=self.bundle,
            state=self.moment[0],
            run=None if manifest is None else manifest.id,
            timed=manifest is None or not manifest.windows.places,
            rules=() if rules is None else tuple(rule.name for rule in rules.rules),
            notes=(*self.told, *self.bundle.notes, *self.notes),
        )

    def recommend(
        self,
        user_id: int | str,
        num_results: int | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        fallback: bool = True,
        request: int = 0,
        without: Iterable[str] = (),
        adventure: float | None = None,
        served: Sequence[int | str] | None = None,
        ranks: bool = False,
    ) -> Recommendations:
        """Slate of one user with its explanation; see `Recommendations`. without: names of stages to leave out.

        adventure: from -1, familiar, to 1, adventurous. served: ids of items that must not come again, as of the page
        before. Both need a stage that reads them in `pipeline.stages`. ranks: whether to tell what each stage did to
        the place of each item.
        """
        return next(
            self.recommend_many(
                [user_id], num_results, context, fallback=fallback, request=request, without=without,
                adventure=adventure, served=served, ranks=ranks,
            )
        )

    def recommend_many(
        self,
        user_ids: Sequence[int | str],
        num_results: int | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        fallback: bool = True,
        request: int = 0,
        without: Iterable[str] = (),
        adventure: float | None = None,
        served: Sequence[int | str] | None = None,
        ranks: bool = False,
    ) -> Iterator[Recommendations]:
        """Slates of several users, served in batches."""
        data, positions = self.answer_data, self._positions(user_ids, fallback)
        asked = {"request": request, "without": without, "adventure": adventure, "served": self._items(served)}
        asked["ranks"] = ranks
        for start, batch in self._batches(positions, num_results, context, **asked):
            for row in range(len(batch.users)):
                yield describe_slate(data, batch, row, user_ids[start + row], self.path(int(batch.users[row])))

    def recommend_from(
        self,
        history: Sequence[int | str],
        num_results: int | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        request: int = 0,
        topics: Sequence[str] = (),
        attributes: Mapping[str, str] | None = None,
    ) -> Recommendations:
        """Slate for somebody who is not in the data, from the ids of items they engaged with, oldest first; without any
        from the topics that they chose, or their attributes.

        Ids that the run does not know are ignored; the notes of the answer say how many.
        """
        guest = self.with_guest(history, topics, attributes)
        return guest.recommend(GUEST, num_results, context, request=request)

    def write_slates(
        self,
        ids: Sequence[int | str] | None,
        target: Path | BinaryIO,
        kind: RowFormat,
        *,
        shards: int = 1,
        n: int | None = None,
        context: Mapping[str, Any] | None = None,
        fallback: bool = True,
        explain: bool = False,
        without: Iterable[str] = (),
        adventure: float | None = None,
        served: Sequence[int | str] | None = None,
        raw: bool = False,
        progress: Progress,
    ) -> Written:
        """Write the slates of some users, or of all (None), a row an item; see `answers.export`.

        Unknown users raise UnknownIdError without `fallback`, before anything is written.
        """
        from recsys_cli.answers.export import write_rows, write_slates

        asked: dict[str, Any] = {"n": n, "context": context, "explain": explain, "without": without}
        asked |= {"adventure": adventure, "served": served}
        users = self.users_of(ids, fallback=fallback)

        def write(stream: BinaryIO, start: int, stop: int, advance: Advance) -> Written:
            rows = self.slate_rows(ids, users[start:stop], start, **asked)
            return write_rows(stream, rows, kind, raw=raw, advance=advance)

        return write_slates(write, len(users), target, kind, shards=shards, progress=progress)

    def users_of(self, ids: Sequence[int | str] | None, *, fallback: bool = True) -> np.ndarray:
        """int32[U] positions of users, of everybody for None; unknown ones are -1, or raise UnknownIdError without
        `fallback`."""
        if ids is None:
            return np.arange(len(self.bundle.user_ids), dtype=np.int32)
        return self._positions(ids, fallback)

    def slate_rows(
        self, ids: Sequence[int | str] | None, users: np.ndarray, start: int = 0, *, n: int | None = None,
        context: Mapping[str, Any] | None = None, explain: bool = False, without: Iterable[str] = (),
        adventure: float | None = None, served: Sequence[int | str] | None = None,
    ) -> Iterator[Rows]:
        """The slates of some users as rows, batch by batch.

        ids: of all users who are asked for, None for everybody. users: int32[U] positions of those from the place
        `start` on.
        """
        from recsys_cli.answers.export import rows_of

        data, text = self.answer_data, ids is not None and any(isinstance(u, str) for u in ids)
        asked = {"without": without, "adventure": adventure, "served": self._items(served)}
        for at, batch in self._batches(users, n, context, **asked):
            part = slice(start + at, start + at + len(batch.users))
            named = self.bundle.user_ids.external(batch.users) if ids is None else ids[part]
            if text:  # one text among the ids makes all text
                named = [str(u) for u in named]
            yield rows_of(data, batch, named, explain=explain)

    def similar_items(self, item_id: int | str, n: int = 10, source: str | None = None) -> Similar:
        """Items most like one; see `answers.similar`."""
        from recsys_cli.answers.similar import similar_items

        return similar_items(self.answer_data, item_id, n, source)

    def items_together(self, item_id: int | str, n: int = 10) -> Similar:
        """Items taken together with one; see `answers.similar.items_together`."""
        from recsys_cli.answers.similar import items_together

        return items_together(self.answer_data, item_id, n)

    def similar_users(self, user_id: int | str, n: int = 10, source: str | None = None) -> Similar:
        """Users most like one; see `answers.similar`."""
        from recsys_cli.answers.similar import similar_users

        return similar_users(self.answer_data, user_id, n, source)

    def recommend_rows(
        self, user_id: int | str, num_results: int | None = None, *, without: Iterable[str] = ()
    ) -> Page:
        """A page of rows for one user; see `answers.rows`."""
        from recsys_cli.answers.rows import page_for

        return page_for(self, self.answer_data, user_id, num_results, frozenset(without))

    def recommend_users(self, user_id: int | str, n: int = 10) -> Accounts:
        """Accounts to follow; see `answers.accounts`."""
        from recsys_cli.answers.accounts import recommend_users

        return recommend_users(self.answer_data, user_id, n, self.seed)

    def why_not(
        self, user_id: int | str, item_id: int | str, num_results: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> WhyNot:
        """Why an item does not stand in the slate of a user; see `answers.why_not`."""
        from recsys_cli.answers.why_not import why_not

        return why_not(self, user_id, item_id, num_results, self.context(context))

    def reach(
        self, author_id: int | str, users: np.ndarray | None = None, num_results: int | None = None,
        progress: Progress | None = None,
    ) -> Reach:
        """Where an author's items are lost over users (int32[U] positions, None: all); see `answers.reach`."""
        from recsys_cli.answers.reach import reach
        from recsys_cli.progress import Progress

        everybody = np.arange(len(self.bundle.user_ids), dtype=np.int32)
        return reach(self, author_id, everybody if users is None else users, num_results, progress or Progress())

    def _items(self, ids: Sequence[int | str] | None) -> np.ndarray | None:
        """int32 positions of items, ascending, each once; unknown ones are left out."""
        if ids is None:
            return None
        found = np.unique(self.bundle.item_ids.positions(list(ids)))
        return found[found >= 0]

    def _positions(self, ids: Sequence[int | str], fallback: bool) -> np.ndarray:
        """int32[U]: -1 for unknown users, who raise UnknownIdError without `fallback`."""
        return np.array([self.position(u, fallback=fallback) for u in ids], np.int32)

    def _batches(
        self, positions: np.ndarray, n: int | None, context: Mapping[str, Any] | None, **asked: Any
    ) -> Iterator[tuple[int, SlateBatch]]:
        """(place of its first user, batch) of slates, as many at once as keep every thread busy; at least one."""
        size = self.pipeline.batch_size * max(self.threads, 1)
        for start in range(0, max(len(positions), 1), size):
            part = positions[start : start + size]
            news = [self.recorded.get(user) for user in part.tolist()] if self.recorded else []
            engine, users = self, part
            if any(news):
                state, snapshot, users = with_since(*self.moment, part, news)
                engine = replace(self, state=state, snapshot=snapshot)
            batch = engine.slates(users, n, self.context(context, len(part)), **asked)
            yield start, batch if users is part else replace(batch, users=part)
