"""Small worlds built by hand, for the tests of sources."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.retrieval.base import Window

DAY = 86_400_000_000
NOW = 1_709_251_200_000_000


def make_catalogue(n_users: int, authors, created=None, topics=None, words=None, topic_names=(), **more) -> Catalogue:
    """Users write the items: authors are user positions (-1 for none)."""
    authors = np.asarray(authors, np.int32)
    n = len(authors)

    def rows(lists) -> Ragged:
        if lists is None:
            return Ragged.empty(n)
        return Ragged.group(
            np.repeat(np.arange(n), [len(x) for x in lists]), np.array([v for x in lists for v in x], np.int32), n
        )

    values = {
        "n_users": n_users, "n_authors": n_users, "item_author": authors,
        "item_created": np.zeros(n, np.int64) if created is None else np.asarray(created, np.int64),
        "item_topics": rows(topics), "item_text": rows(words), "item_codes": {}, "item_numbers": {}, "item_safety": {},
        "user_created": np.zeros(n_users, np.int64), "user_codes": {}, "user_numbers": {},
        "author_user": np.arange(n_users, dtype=np.int32), "names": {"topics": list(topic_names)},
    }
    return Catalogue(**{**values, **more})


def make_log(rows) -> Log:
    """From (user, item, time) or (user, item, time, clicked) rows, in any order."""
    rows = sorted((*r, True)[:4] for r in rows)
    rows.sort(key=lambda r: r[2])
    user, item, time, click = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 4
    return Log(
        user=user.astype(np.int32), item=item.astype(np.int32), time=time.astype(np.int64),
        actions={"click": click.astype(bool)}, positive_actions=("click",), negative_actions=(),
    )


def edges(pairs, weight: float = 1.0) -> dict[str, np.ndarray]:
    """Edges (from, to) of one weight as `Dataset.edges` gives them, there from the first moment on."""
    pairs = np.asarray(pairs, np.int32).reshape(-1, 2)
    n = len(pairs)
    weights = np.full(n, weight, np.float32)
    return {"from": pairs[:, 0], "to": pairs[:, 1], "time": np.zeros(n, np.int64), "weight": weights}


def make_window(catalogue: Catalogue, log: Log, end: int = NOW, follows=None, seed: int = 3) -> Window:
    """What a source is fitted on: the rows of the log before `end` (µs)."""
    past = log.window(end=end)
    return Window(None, catalogue, past, end, State.build(catalogue, past, end, follows), seed)


def planted(seed: int = 0, users: int = 120, items: int = 400, communities: int = 5, each: int = 24):
    """(catalogue, log, follows): users click in their own community nine times of ten.

    Items carry their community's topic and words and are written by its members, who follow each other. The
    log spans 20 days up to NOW; each user clicks an item once.
    """
    rng = np.random.default_rng(seed)
    home, topic = np.arange(users) % communities, rng.integers(0, communities, items)
    members = [np.flatnonzero(home == c) for c in range(communities)]
    authors = np.array([rng.choice(members[t]) for t in topic])
    created = NOW - 30 * DAY + rng.integers(0, 9 * DAY, items)
    pull = rng.pareto(1.5, items) + 0.2
    rows = []
    for u in range(users):
        weight = pull * np.where(topic == home[u], 9.0, 1.0 / max(communities - 1, 1))
        for i in rng.choice(items, each, replace=False, p=weight / weight.sum()):
            rows.append((u, int(i), int(NOW - 20 * DAY + rng.integers(0, 20 * DAY))))
    words = [list(100 * t + rng.choice(40, 6, replace=False)) for t in topic]
    catalogue = make_catalogue(
        users, authors, created, [[t] for t in topic], words, [f"t{c}" for c in range(communities)],
        item_codes={"media_type": rng.integers(0, 3, items).astype(np.int32)},
        item_numbers={"length": rng.gamma(2, 30, items).astype(np.float32)},
        user_codes={"country": home.astype(np.int32)},
        user_numbers={"age": rng.uniform(16, 80, users).astype(np.float32)},
    )
    pairs = [(a, b) for a in range(users) for b in rng.choice(members[home[a]], 6) if a != b]
    return catalogue, make_log(rows), edges(pairs)
