"""A page of rows: top picks, because of what was liked, trending, new, topics, who to follow.

Rows are modules of one page (Gomez-Uribe and Hunt, ACM TMIS 2015): each has a reason of its own, an item stands in the
first row that holds it, and everything passes the filters and the safety policy that a slate passes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.accounts import recommend_users
from recsys_cli.answers.reasons import label_of
from recsys_cli.data.schema import DAY
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filters import LastChecks
from recsys_cli.pipeline.onboarding import topic_candidates
from recsys_cli.pipeline.runner import Runner

if TYPE_CHECKING:
    from recsys_cli.answers.data import AnswerData
    from recsys_cli.slate_engine import SlateEngine

LIKED_ROWS = 2
"""Rows that begin with something liked, at most."""
TOPIC_ROWS = 2
"""Rows of topics, at most."""
NEW_DAYS = 2.0
"""Age up to which an item is new."""
DEEP = 5
"""Items asked for a row, times the length of a row: some are in rows above, some are filtered out."""


@dataclass(frozen=True)
class RowItem:
    """One item, or account, of a row."""

    id: int | str
    text: str = ""
    author_id: int | str | None = None


@dataclass(frozen=True)
class Row:
    """One row of the page."""

    kind: str
    """"top_picks", "because_you_liked", "trending", "new", "topic" or "who_to_follow" """
    title: str
    items: list[RowItem]


@dataclass(frozen=True)
class Page:
    """The rows for one user, in their order; empty ones are left out."""

    user_id: int | str
    run_id: str | None
    path: str
    rows: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def page_for(
    engine: SlateEngine, data: AnswerData, user_id: int | str, n: int | None, without: frozenset[str]
) -> Page:
    """A page of rows of `n` items for one user; an unknown user gets the rows that need no history."""
    return _PageMaker(engine, data, user_id, n, without).page()


class _PageMaker:
    """Fills the rows one after the other, and knows what stands on the page already."""

    def __init__(
        self, engine: SlateEngine, data: AnswerData, user_id: int | str, n: int | None, without: frozenset[str]
    ):
        self._engine, self._data, self._id = engine, data, user_id
        self._user = engine.position(user_id)
        self._query = engine.query(np.array([self._user], np.int32), n, without=engine.stages.without(without))
        self._checks = next(stage for stage in engine.stages.selection if isinstance(stage, LastChecks))
        self._used: set[int] = set()
        self._rows: list[Row] = []

    def page(self) -> Page:
        chosen, stages = self._engine.of_topics(self._query), self._engine.stages
        runner = Runner(self._query, chosen, keep=True)
        slate = runner.run(stages.stages if chosen is None else stages.stages[len(stages.sourcing) :])
        self._add("top_picks", "Top picks for you", slate.items[0])
        self._because_liked()
        self._source_row("trending", "Trending now")
        self._new(runner.kept["utility"].items[0])
        self._topics()
        self._accounts()
        run = self._engine.manifest.id if self._engine.manifest else None
        return Page(self._id, run, self._engine.path(self._user), self._rows)

    def _add(self, kind: str, title: str, items: np.ndarray) -> None:
        """A row of the items that pass the last checks and stand in no row above; none where nothing is left."""
        items = np.asarray(items, np.int32)
        items = items[items >= 0]
        if not len(items):
            return
        asked = Candidates(items[None], np.zeros((1, len(items)), np.uint32))
        left = [i for i in self._checks(self._query, asked).items[0].tolist() if i >= 0 and i not in self._used]
        left = left[: self._query.size]
        if left:
            self._used |= set(left)
            self._rows.append(Row(kind, title, self._told(left)))

    def _told(self, items: list[int]) -> list[RowItem]:
        bundle = self._engine.bundle
        authors = bundle.author_ids.external(self._engine.state.catalogue.item_author[items])
        ids = bundle.item_ids.external(items)
        return [
            RowItem(i, bundle.labels[item], author) for i, item, author in zip(ids, items, authors, strict=True)
        ]

    def _because_liked(self) -> None:
        history = self._engine.state.history[self._user] if self._user >= 0 else []
        bundle, made = self._engine.bundle, 0
        for item in dict.fromkeys(int(i) for i in history[::-1]):
            if made == LIKED_ROWS:
                return
            near = next(filter(None, (self._near(source, item) for source in bundle.retrievers.values())), None)
            if near is None:
                continue
            name = label_of(bundle.labels[item], 40) or str(bundle.item_ids.external([item])[0])
            before = len(self._rows)
            self._add("because_you_liked", f"Because you liked {name}", np.array(near))
            made += len(self._rows) > before

    def _near(self, source, item: int) -> list[int] | None:
        """Items most like one by a source; None where it measures no likeness or knows nothing near."""
        k = min(DEEP * self._query.size, self._engine.state.catalogue.n_items)
        answer = source.similar_items(self._engine.state, np.array([item], np.int32), k)
        return None if answer is None else [i for i in answer[0][0].tolist() if i >= 0] or None

    def _source_row(self, name: str, title: str) -> None:
        source = self._engine.bundle.retrievers.get(name)
        if source is not None:
            k = min(DEEP * self._query.size + len(self._used), self._engine.state.catalogue.n_items)
            self._add(name, title, source.retrieve(self._engine.state, self._query.users, k)[0][0])

    def _new(self, ranked: np.ndarray) -> None:
        """New items in the order of the ranking, then the newest of the catalogue."""
        created, now = self._engine.state.catalogue.item_created, self._engine.state.now
        young = (created > 0) & (created < now) & (created >= now - int(NEW_DAYS * DAY))
        ranked = ranked[ranked >= 0]
        newest = np.flatnonzero(young)
        newest = newest[np.argsort(-created[newest], kind="stable")]
        items = np.concatenate([ranked[young[ranked]], newest])
        items = np.array(list(dict.fromkeys(items.tolist())), np.int32)
        self._add("new", "New", items[: DEEP * self._query.size + len(self._used)])

    def _topics(self) -> None:
        """The topics that most of the user's interactions are on, or that somebody new chose."""
        catalogue = self._engine.state.catalogue
        history = self._engine.state.history[self._user] if self._user >= 0 else np.zeros(0, np.int32)
        if not catalogue.n_topics:
            return
        counts = np.bincount(catalogue.item_topics.take(history)[1], minlength=catalogue.n_topics)
        if self._user >= 0 and self._user == self._engine.guest and not len(history):
            counts[list(self._engine.topics)] = 1
        for topic in np.argsort(-counts, kind="stable")[:TOPIC_ROWS].tolist():
            if counts[topic]:
                found = topic_candidates(self._engine.state, np.array([topic], np.int32), ("topic",))
                order = np.argsort(found.scores["rank_topic"][0], kind="stable")
                self._add("topic", f"In {catalogue.names['topics'][topic]}", found.items[0][order])

    def _accounts(self) -> None:
        known = 0 <= self._user < len(self._engine.bundle.user_ids)
        if not known or not len(self._engine.state.follows.values):
            return
        found = recommend_users(self._data, self._id, self._query.size, self._engine.seed)
        rows = [RowItem(account.author_id, account.reason) for account in found.accounts]
        if rows:
            self._rows.append(Row("who_to_follow", "Who to follow", rows))
