"""A hand-made world for stages: who wrote what, when, and who saw it."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query

NOW = 100 * DAY


def make_catalogue(author, created=None, topics=None, safety=None, users=4):
    author = np.array(author, np.int32)
    n = len(author)
    topics = topics or [[] for _ in range(n)]
    flat = [t for row in topics for t in row]
    rows = np.array([i for i, row in enumerate(topics) for _ in row], np.int32)
    return Catalogue(
        n_users=users,
        n_authors=users,
        item_author=author,
        item_created=np.array(created if created is not None else [NOW - DAY] * n, np.int64),
        item_topics=Ragged.group(rows, np.array(flat, np.int32), n),
        item_text=Ragged.empty(n),
        item_codes={},
        item_numbers={},
        item_safety={k: np.array(v, np.float32) for k, v in (safety or {}).items()},
        user_created=np.zeros(users, np.int64),
        user_codes={},
        user_numbers={},
        author_user=np.arange(users, dtype=np.int32),
        names={"topics": [f"t{i}" for i in range(max(flat, default=-1) + 1)]},
    )


def make_state(catalogue, shown=(), blocks=(), now=NOW):
    """shown: (user, item, clicked) a second apart, ending at `now`. blocks: (user, author)."""
    shown = list(shown)
    log = Log(
        user=np.array([s[0] for s in shown], np.int32),
        item=np.array([s[1] for s in shown], np.int32),
        time=now - np.arange(len(shown), 0, -1, dtype=np.int64) * 1_000_000,
        actions={"click": np.array([s[2] for s in shown], bool)},
        positive_actions=("click",),
        negative_actions=(),
    )
    edges = {
        "from": np.array([b[0] for b in blocks], np.int32),
        "to": np.array([b[1] for b in blocks], np.int32),
        "time": np.zeros(len(blocks), np.int64),
        "mute": np.zeros(len(blocks), bool),
    }
    return State.build(catalogue, log, now, None, edges)


def make_query(state, users, size=3, seed=0, salt=0):
    return Query(
        users=np.array(users, np.int32),
        size=size,
        bundle=SimpleNamespace(negative_actions=("hide",)),
        state=state,
        snapshot=None,
        context=None,
        seed=seed,
        salt=salt,
    )


def make_candidates(items, **scores):
    items = np.array(items, np.int32)
    columns = {k: np.array(v, np.float32) for k, v in scores.items()}
    return Candidates(items, (items >= 0).astype(np.uint32), columns)


@pytest.fixture(scope="session")
def make():
    return SimpleNamespace(catalogue=make_catalogue, state=make_state, query=make_query, candidates=make_candidates)
