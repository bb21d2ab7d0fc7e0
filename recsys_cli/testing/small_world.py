"""A random little dataset with every kind of column, for contracts: quick to build, awkward to count."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys_cli.data.catalogue import Catalogue, Columns
from recsys_cli.data.encode import hashed_names
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.family import DatasetFacts

HOUR = 3_600_000_000
START = 1_700_000_000_000_000
"""µs; most of the log is later, many creations are earlier."""
USERS, ITEMS, AUTHORS, TOPICS, SURFACES, DEVICES = 6, 9, 4, 4, 2, 3
WORDS = list("abcdef")
"""Values of the lists and words of the texts."""
CONFIG = FeatureConfig(
    attribute_families=("media_type",),
    crosses=(("user", "item.language"), ("user", "daypart"), ("item", "user.country"), ("surface", "daypart")),
    cross_actions=("positive", "hide"), text_dims=3, item_window_actions=("positive", "like", "negative"),
    topic_half_life_days=2.0, before_taste_dims=2,
    columns={
        "user": {
            "hobbies": {"compared_with": ["tags", "topics"]}, "bio": {"becomes": "text", "compared_with": ["tags"]},
            "plan": "category",
        },
        "item": {"tags": {"dims": 2}},
        "impression": {"network": "category", "temperature": "number", "cell": "category"},
    },
)


@dataclass(frozen=True)
class SmallWorld:
    """A dataset in memory."""

    catalogue: Catalogue
    log: Log
    edges: dict[str, np.ndarray]
    """follows and blocks alike, as `Dataset.edges` gives them"""
    config: FeatureConfig = CONFIG

    @property
    def facts(self) -> DatasetFacts:
        """What families define features from."""
        log = self.log
        return DatasetFacts(
            self.config, self.catalogue, log.positive_actions, log.negative_actions, log.dwell is not None,
            () if log.surface is None else ("home", "search"), () if log.device is None else ("a", "b", "c"),
            ("als",), log.context,
        )


def small_world(seed: int, n: int = 120) -> SmallWorld:
    """n impressions of a few users and items, many of which share a moment; much is unknown."""
    rng = np.random.default_rng(seed)
    catalogue = _catalogue(rng)
    log = _log(rng, n)
    times = [0, START, START + HOUR, int(log.time[n // 2])]
    edges = {
        "from": rng.integers(0, USERS, 7).astype(np.int32),
        "to": rng.integers(0, AUTHORS, 7).astype(np.int32),
        "time": rng.choice(times, 7),
        "weight": np.ones(7, np.float32),
    }
    return SmallWorld(replace(catalogue, before=_before(np.random.default_rng(seed + 1))), log, edges)


def bare_world(seed: int, n: int = 120) -> SmallWorld:
    """The same users and items of whom nothing is known but who clicked on what and when."""
    world = small_world(seed, n)
    catalogue = Catalogue(
        n_users=USERS, n_authors=0, item_author=np.full(ITEMS, -1, np.int32), item_created=np.zeros(ITEMS, np.int64),
        item_topics=Ragged.empty(ITEMS), item_text=Ragged.empty(ITEMS), item_codes={}, item_numbers={}, item_safety={},
        user_created=np.zeros(USERS, np.int64), user_codes={}, user_numbers={}, author_user=np.zeros(0, np.int32),
    )
    log = Log(
        world.log.user, world.log.item, world.log.time, {"click": world.log.actions["click"]}, ("click",), ()
    )
    none = {name: values[:0] for name, values in world.edges.items()}
    return SmallWorld(catalogue, log, none, FeatureConfig())


def similarity(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the one retriever of a small world."""
    return {"als": (users * 10 + items).astype(np.float32)}


def some_words(rng: np.random.Generator, n: int) -> Ragged:
    """n rows of none to all of WORDS, as the catalogue holds them."""
    rows, columns = np.nonzero(rng.random((n, len(WORDS))) < rng.random((n, 1)))
    return Ragged.group(rows, hashed_names(WORDS)[columns], n).sorted_rows()


def some_vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    """float32[n, 3], some unknown."""
    return np.where(rng.random((n, 1)) < 0.2, np.nan, rng.normal(size=(n, 3))).astype(np.float32)


def some_days(rng: np.random.Generator, n: int) -> np.ndarray:
    """int64[n] days before and after START, some unknown."""
    return np.where(rng.random(n) < 0.3, 0, START + rng.integers(-900, 9, n) * 24 * HOUR)


def _catalogue(rng: np.random.Generator) -> Catalogue:
    lengths = rng.integers(0, 4, ITEMS)
    topics = [rng.choice(TOPICS, k, replace=False) for k in lengths]
    seconds = rng.choice([np.nan, 5, 10, 30, 400], ITEMS).astype(np.float32)
    seconds[0] = 10

    def codes(n: int, kinds: int) -> np.ndarray:
        return rng.integers(-1, kinds, n).astype(np.int32)

    return Catalogue(
        n_users=USERS,
        n_authors=AUTHORS,
        item_author=codes(ITEMS, AUTHORS),
        item_created=START + rng.integers(-50, 10, ITEMS) * HOUR * (rng.random(ITEMS) < 0.8),
        item_topics=Ragged(np.r_[0, lengths.cumsum()], np.concatenate(topics).astype(np.int32)),
        item_text=Ragged(np.arange(ITEMS + 1) * 2, rng.integers(0, 5, 2 * ITEMS).astype(np.int32)).sorted_rows(),
        item_codes={"media_type": codes(ITEMS, 2), "language": codes(ITEMS, 2)},
        item_numbers={"duration_seconds": seconds},
        item_safety={"nsfw": rng.random(ITEMS, np.float32), "spam": rng.random(ITEMS, np.float32)},
        user_created=START - rng.integers(1, 900, USERS) * 24 * HOUR,
        user_codes={"country": codes(USERS, 3), "language": codes(USERS, 2)},
        user_numbers={
            "age": rng.choice([np.nan, 20, 40], USERS).astype(np.float32),
            "plan": rng.choice([np.nan, 0, 1, 7], USERS).astype(np.float32),
        },
        user_columns=Columns(
            lists={"hobbies": some_words(rng, USERS)}, words={"bio": some_words(rng, USERS)},
            vectors={"look": some_vectors(rng, USERS)}, times={"born": some_days(rng, USERS)},
        ),
        item_columns=Columns(
            lists={"tags": some_words(rng, ITEMS)}, vectors={"look": some_vectors(rng, ITEMS)},
            times={"released": some_days(rng, ITEMS)},
        ),
        author_user=rng.permutation(USERS)[:AUTHORS].astype(np.int32),
        names={
            "topics": list("abcd"), "item.media_type": ["text", "video"], "user.country": ["de", "fr", "it"],
            "item.language": ["en", "de"], "user.language": ["de", "fr"], "impression.network": ["cell", "wifi"],
        },
    )


def _log(rng: np.random.Generator, n: int) -> Log:
    time = np.sort(START + rng.integers(0, n // 2, n) * int(rng.choice([1, HOUR // 7, 5 * HOUR])))
    click = rng.random(n) < 0.4
    log = Log(
        user=rng.integers(0, USERS, n).astype(np.int32),
        item=rng.integers(0, ITEMS, n).astype(np.int32),
        time=time,
        actions={
            "click": click,
            "like": click & (rng.random(n) < 0.4),
            "follow": rng.random(n) < 0.1,
            "hide": rng.random(n) < 0.1,
            "mute": rng.random(n) < 0.04,
        },
        positive_actions=("click", "like", "follow"),
        negative_actions=("hide", "mute"),
        dwell=np.where(rng.random(n) < 0.8, rng.gamma(1, 20, n), np.nan).astype(np.float32),
        surface=rng.integers(-1, SURFACES, n).astype(np.int16),
        device=rng.integers(-1, DEVICES, n).astype(np.int16),
        context={
            "network": rng.integers(-1, 2, n).astype(np.int32),
            "temperature": rng.choice([np.nan, -5, 12, 30], n).astype(np.float32),
            "cell": rng.choice([np.nan, 3, 5], n).astype(np.float32),
        },
    )
    return log.take(np.lexsort((log.user, log.time)))


def _before(rng: np.random.Generator) -> dict[str, Ragged]:
    """What was watched and liked before the log begins, some of it twice."""
    users = {"watch": rng.integers(0, USERS, 60), "like": rng.integers(0, USERS, 12)}
    items = {action: rng.integers(0, ITEMS, len(of)).astype(np.int32) for action, of in users.items()}
    return {action: Ragged.group(of, items[action], USERS) for action, of in users.items()}
