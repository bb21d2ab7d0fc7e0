"""RealGraph: how likely a user is to interact with an author, and recent items of the likeliest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import DescribedArrayRetriever, Window
from recsys_cli.retrieval.batches import chunks, unique_users
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.graph.user_author import Pairs, lengths_of, newest_items, recency, user_author
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.pairs import best_pairs, find_pairs, pair_values, without_pairs
from recsys_cli.retrieval.reason import Reason

PAIRS_AT_ONCE = 1_000_000
MAX_EXAMPLES = 1_000_000
"""Edges on which the model is fitted at most."""
FEATURES = (
    "follows",
    "followed_by",
    "mutual",
    "tie",
    "tie_back",
    "shared_follows",
    "recency",
    "shown",
    "followers",
    "posts",
    "activity",
)
"""Columns of the model; a decayed count of each action follows them."""


class RealGraphConfig(RetrieverConfig):
    """RealGraph: predicted probability of an interaction (Kamath et al., KDD workshop UEO 2014)."""

    kind: Literal["real_graph"] = "real_graph"
    renamed: ClassVar[dict[str, str]] = {"regularisation": "l2"}
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    authors: Literal["all", "followed"] = "all"
    """"followed" leaves out the items of authors whom the user does not follow."""
    slice_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the impressions, the latest, in which an interaction is what the model predicts."""
    half_life_days: PositiveFloat = 2.0
    """Age at which an item counts half as much as a new one."""
    action_half_life_days: PositiveFloat = 7.0
    """Time after which an action counts half."""
    per_author: PositiveInt = 50
    """Newest items of one author that are looked at."""
    l2: PositiveFloat = 1.0
    """Weight of the squared norm of the standardised coefficients."""


class _Actions(NamedTuple):
    """Decayed counts of each action by edge, as of the end of a window."""

    authors: Ragged
    """int32 authors by user, ascending"""
    counts: np.ndarray
    """float32[m, actions] beside them"""
    end: int
    """µs"""

    @classmethod
    def build(cls, log: Log, item_author: np.ndarray, n_users: int, n_authors: int, end: int, half_life: float):
        """From the rows of a log that end before `end`."""
        names = list(log.actions)
        acted = np.zeros(len(log), bool)
        for name in names:
            acted |= log.actions[name]
        rows = np.flatnonzero(acted & (item_author[log.item] >= 0))
        decay = np.exp2((log.time[rows] - end) / (half_life * DAY))
        width = np.int64(max(n_authors, 1))
        keys, at = np.unique(log.user[rows] * width + item_author[log.item[rows]], return_inverse=True)
        counts = [np.bincount(at, weights=decay * log.actions[a][rows], minlength=len(keys)) for a in names]
        counts = np.stack(counts, axis=1) if names else np.zeros((len(keys), 0))
        offsets = offsets_of(np.bincount(keys // width, minlength=n_users))
        return cls(Ragged(offsets, (keys % width).astype(np.int32)), counts.astype(np.float32), end)


class RealGraph(DescribedArrayRetriever):
    """score(u, i) = P(u interacts with the author of i) × 2^(−age of i / half-life).

    P is logistic in: follows, followed back, both; decayed interactions either way; follows in common; time since
    the last interaction; items of the author shown so far; the author's followers and recent items; the user's
    activity; and a decayed count of each action. It is fitted on the window's last slice: features from before,
    an interaction in it or none as the target. Edges are follows, followers and whomever the user interacted with.
    Counts of single actions are of the time of the fit, decayed to now; the rest is as of the State.
    """

    config_type: ClassVar = RealGraphConfig
    part: ClassVar = "real_graph.bin"
    parts: ClassVar = ("coefficients", "offsets", "authors", "counts")
    config: RealGraphConfig

    def __init__(self, config: RealGraphConfig):
        super().__init__(config)
        self.actions: tuple[str, ...] = ()
        self.coefficients = np.zeros(len(FEATURES))
        """float64[F] of the raw columns: FEATURES, then `actions`"""
        self.intercept = 0.0
        self._counts = _Actions(Ragged.empty(0), np.zeros((0, 0), np.float32), 0)
        self._sides = PerState(self._both_sides)

    def missing(self, window: Window) -> str | None:
        if not (window.catalogue.item_author >= 0).any():
            return "needs items with authors"
        if len(window.state.follows.values) or len(window.state.ties.values):
            return None
        return "needs interactions or follows"

    def _both_sides(self, state: State) -> tuple[np.ndarray, Ragged, np.ndarray]:
        """(author that each user is or -1, users by author whom they follow, recent items by author)."""
        catalogue = state.catalogue
        followers = Ragged.group(state.follows.values, state.follows.rows, catalogue.n_authors)
        recent = (catalogue.item_created >= state.now - 7 * DAY) & (catalogue.item_created < state.now)
        posts = np.bincount(catalogue.item_author[recent & (catalogue.item_author >= 0)], minlength=catalogue.n_authors)
        return user_author(catalogue), followers, posts

    def _edges(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place int64[m], author int32[m]), ordered, each once: follows, ties and followers of the users."""
        author_of, followers, _ = self._sides(state)
        own = np.where(users >= 0, author_of[users], -1) if len(author_of) else np.full(len(users), -1)
        back_place, back = followers.take(own) if len(followers) else (np.zeros(0, np.int64), np.zeros(0, np.int32))
        back = author_of[back]
        parts = [state.follows.take(users), state.ties.take(users), (back_place[back >= 0], back[back >= 0])]
        width = np.int64(max(state.catalogue.n_authors, 1))
        keys = np.unique(np.concatenate([place * width + author for place, author in parts]))
        places, authors = keys // width, (keys % width).astype(np.int32)
        other = authors != own[places]
        return places[other], authors[other]

    def _features(
        self, state: State, counts: _Actions, users: np.ndarray, places: np.ndarray, authors: np.ndarray
    ) -> np.ndarray:
        """float64[m, F] of edges (users[places], authors), ordered by place, then author."""
        author_of, _, posts = self._sides(state)
        catalogue, every = state.catalogue, np.arange(len(places))
        people, own = catalogue.author_user[authors], author_of[users[places]]
        known = (people >= 0) & (own >= 0)
        back = np.where(known, own, 0)
        follows = find_pairs(state.follows, users, places, authors)[0]
        followed = find_pairs(state.follows, np.where(known, people, -1), every, back)[0] & known
        tie_back = pair_values(state.ties, state.tie_strength, np.where(known, people, -1), every, back) * known
        strength = state.tie_strength.take(users)
        activity = np.bincount(strength[0], weights=strength[1], minlength=len(users))
        columns = [
            follows,
            followed,
            follows & followed,
            np.log1p(pair_values(state.ties, state.tie_strength, users, places, authors)),
            np.log1p(tie_back),
            _shared_follows(state, users, places, people),
            self._since(state, users, places, authors),
            np.log1p(_count_by_edge(state.seen.take(users), catalogue, places, authors)),
            np.log1p(state.author_followers[authors]),
            np.log1p(posts[authors]),
            np.log1p(activity[places]),
        ]
        inside = np.where(users < len(counts.authors), users, -1)
        found, at = find_pairs(counts.authors, inside, places, authors)
        done = np.zeros((len(places), counts.counts.shape[1]))
        done[found] = counts.counts[at[found]]
        done *= np.exp2(min((counts.end - state.now) / (self.config.action_half_life_days * DAY), 0))
        return np.concatenate([np.stack(columns, axis=1).astype(np.float64), np.log1p(done)], axis=1)

    def _since(self, state: State, users: np.ndarray, places: np.ndarray, authors: np.ndarray) -> np.ndarray:
        """float64[m] 2^(−time since the last interaction / half-life), 0 for none."""
        at, items = state.history.take(users)
        times = state.history_time.take(users)[1]
        edge = _edge_of(at, state.catalogue.item_author[items], places, authors, state.catalogue.n_authors)
        last = np.full(len(places), np.iinfo(np.int64).min // 2)
        np.maximum.at(last, edge[edge >= 0], times[edge >= 0])
        days = (state.now - last) / DAY
        return np.exp2(-np.minimum(days / self.config.action_half_life_days, 100)) * (days < 1e5)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        log, catalogue = window.log, window.catalogue
        shape = catalogue.n_users, catalogue.n_authors
        self.actions = tuple(log.actions)
        self.coefficients = np.zeros(len(FEATURES) + len(self.actions))
        # what is known without any example: somebody interacted with before is likelier
        self.coefficients[FEATURES.index("tie")] = 1.0
        self.intercept = -2.0
        half_life = self.config.action_half_life_days
        with progress.step("real graph"):
            if len(log):
                cut = int(log.time[int((1 - self.config.slice_share) * len(log))])
                past = log.window(end=cut)
                before = _Actions.build(past, catalogue.item_author, *shape, cut, half_life)
                self._learn(_state_before(window, past, cut), before, log.window(start=cut), window.seed)
            self._counts = _Actions.build(log, catalogue.item_author, *shape, window.end, half_life)

    def _learn(self, state: State, counts: _Actions, later: Log, seed: int) -> None:
        users = np.unique(later.user)
        cost = self._costs(state, users)
        if cost.sum() > MAX_EXAMPLES:
            users = np.random.default_rng(seed).permutation(users)
            users = np.sort(users[: max(int(np.searchsorted(np.cumsum(self._costs(state, users)), MAX_EXAMPLES)), 1)])
        rows = np.flatnonzero(later.positive)
        author = state.catalogue.item_author[later.item[rows]]
        width = np.int64(max(state.catalogue.n_authors, 1))
        positive = np.unique((later.user[rows] * width + author)[author >= 0])
        features, targets = [], []
        for part in chunks(self._costs(state, users), PAIRS_AT_ONCE):
            places, authors = self._edges(state, users[part])
            features.append(self._features(state, counts, users[part], places, authors))
            targets.append(np.isin(users[part][places] * width + authors, positive))
        if features and 0 < np.concatenate(targets).sum() < sum(map(len, targets)):
            self.coefficients, self.intercept = _logistic(
                np.concatenate(features), np.concatenate(targets), self.config.l2
            )

    def _fitted(self) -> tuple[dict[str, np.ndarray], dict]:
        arrays = {
            "coefficients": self.coefficients,
            "offsets": self._counts.authors.offsets,
            "authors": self._counts.authors.values,
            "counts": self._counts.counts,
        }
        return arrays, {"intercept": self.intercept, "actions": list(self.actions), "end": self._counts.end}

    def _set(self, arrays: dict[str, np.ndarray], meta: dict) -> None:
        self.coefficients, self.intercept = arrays["coefficients"], meta["intercept"]
        self.actions = tuple(meta["actions"])
        self._counts = _Actions(Ragged(arrays["offsets"], arrays["authors"]), arrays["counts"], meta["end"])

    def ties(self, state: State, users: np.ndarray) -> Pairs:
        """(place, author, probability that the user interacts with the author) of every edge of the users."""
        users = np.asarray(users)
        places, authors = self._edges(state, users)
        values = self._features(state, self._counts, users, places, authors)
        # a sum over columns gives each row the same number whatever its company; a matrix product may not
        logits = self.intercept + (values * self.coefficients).sum(axis=1)
        return places, authors, 1 / (1 + np.exp(-np.clip(logits, -60, 60)))

    def _costs(self, state: State, users: np.ndarray) -> np.ndarray:
        """int64[B] edges of each user at most."""
        author_of, followers, _ = self._sides(state)
        own = np.where(users >= 0, author_of[users], -1) if len(author_of) else np.full(len(users), -1)
        return lengths_of(state.follows, users) + lengths_of(state.ties, users) + lengths_of(followers, own)

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, config = np.asarray(users), self.config
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        for part in chunks(self._costs(state, users) * config.per_author + k, PAIRS_AT_ONCE):
            ties = self.ties(state, users[part])
            if config.authors == "followed":
                held = find_pairs(state.follows, users[part], *ties[:2])[0]
                ties = tuple(column[held] for column in ties)
            found = newest_items(state, ties, config.per_author, config.half_life_days, config.max_age_days)
            if config.exclude_seen:
                found = without_pairs(state.seen, users[part], *found)
            items[part], scores[part] = best_pairs(*found, part.stop - part.start, k)
        return items, scores

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items, width = np.asarray(items), np.int64(max(state.catalogue.n_authors, 1))
        people, at = unique_users(users)
        inside = np.clip(items, 0, state.catalogue.n_items - 1)
        authors = np.where(items == inside, state.catalogue.item_author[inside], -1)
        out = np.zeros(items.shape, np.float32)
        order = np.argsort(at, kind="stable")
        for part in chunks(self._costs(state, people) + 1, PAIRS_AT_ONCE):
            places, known, probability = self.ties(state, people[part])
            if not len(known):
                continue
            keys = places * width + known
            rows = order[slice(*np.searchsorted(at[order], [part.start, part.stop]))]
            sought = (at[rows] - part.start)[:, None] * width + authors[rows]
            near = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
            fresh = recency(state, inside[rows].ravel(), self.config.half_life_days, self.config.max_age_days)
            held = (keys[near] == sought) & (authors[rows] >= 0)
            out[rows] = np.where(held, probability[near] * fresh.reshape(sought.shape), 0)
        return out

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        authors = state.catalogue.item_author[np.asarray(items)]
        followed = state.follows.contains(np.array([user]), authors[None])[0]
        tied = state.ties.contains(np.array([user]), authors[None])[0]
        kinds = np.where(followed, "follow", np.where(tied, "tie", "taste"))
        return [Reason(str(k), -1 if k == "taste" else int(a)) for k, a in zip(kinds, authors, strict=True)]


def _state_before(window: Window, past: Log, cut: int) -> State:
    """The State at an earlier moment of the window, with the follows that there were."""
    if window.dataset is not None:
        return State.build(window.catalogue, past, cut, window.dataset.edges("follows"))
    # without the table, what the window's own log shows to be later is taken away
    follows, log = window.state.follows, window.log
    user, author = follows.rows, follows.values
    if "follow" in log.actions:
        made = np.flatnonzero(log.actions["follow"] & (log.time >= cut))
        width = np.int64(max(window.catalogue.n_authors, 1))
        later = log.user[made] * width + window.catalogue.item_author[log.item[made]]
        keep = ~np.isin(user * width + author, later)
        user, author = user[keep], author[keep]
    table = {"from": user, "to": author, "time": np.full(len(user), np.iinfo(np.int64).min)}
    return State.build(window.catalogue, past, cut, table)


def _edge_of(at: np.ndarray, author: np.ndarray, places: np.ndarray, authors: np.ndarray, n: int) -> np.ndarray:
    """int64[m] place of each (at, author) among ordered edges (places, authors), -1 where it is none."""
    if not len(places):
        return np.full(len(at), -1)
    keys, sought = places * np.int64(n) + authors, at * np.int64(n) + author
    near = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
    return np.where((keys[near] == sought) & (author >= 0), near, -1)


def _count_by_edge(rows: tuple[np.ndarray, np.ndarray], catalogue, places, authors) -> np.ndarray:
    """int64[m] items of (place, item) rows by the author of each edge."""
    at, items = rows
    edge = _edge_of(at, catalogue.item_author[items], places, authors, catalogue.n_authors)
    return np.bincount(edge[edge >= 0], minlength=len(places))


def _shared_follows(state: State, users: np.ndarray, places: np.ndarray, people: np.ndarray) -> np.ndarray:
    """float64[m] cosine of whom the user and the person behind the author follow; 0 where either follows nobody."""
    mine, theirs = lengths_of(state.follows, users[places]), lengths_of(state.follows, people)
    both = np.flatnonzero((mine > 0) & (theirs > 0))
    common = np.zeros(len(places))
    for part in chunks((mine + theirs)[both], PAIRS_AT_ONCE):
        edges = both[part]
        start = state.follows.offsets[users[places[edges]]]
        at, followed = expand(start, mine[edges], state.follows.values)
        found = find_pairs(state.follows, people[edges], at, followed)[0]
        common[edges] = np.bincount(at[found], minlength=len(edges))
    return common / np.sqrt(np.maximum(mine * theirs, 1))


def _logistic(values: np.ndarray, targets: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Coefficients of the raw columns and intercept of a logistic regression, by Newton's method.

    values: float64[n, F]; targets: bool[n]; ridge: penalty on the coefficients of the standardised columns.
    """
    mean, scale = values.mean(axis=0), values.std(axis=0)
    varies = scale > 1e-9
    scaled = np.where(varies, (values - mean) / np.where(varies, scale, 1), 0)
    design = np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 0
    weights = np.zeros(design.shape[1])
    weights[-1] = np.log(targets.mean() / (1 - targets.mean()))
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - targets) + penalty * weights
        hessian = (design * np.maximum(p * (1 - p), 1e-9)[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        weights -= step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-8:
            break
    raw = np.where(varies, weights[:-1] / np.where(varies, scale, 1), 0)
    return raw, float(weights[-1] - raw @ mean)
