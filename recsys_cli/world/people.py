"""The people of the world: what interests them, how they behave and what they publish about."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from recsys_cli.data.schema import DAY, SECOND
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.randomness import generator, weighted_choice

INTERESTS = 10
"""Most topics that one person is interested in."""
LANGUAGES = ("en", "es", "pt", "fr", "de")
COUNTRIES = (
    # country, language, hours ahead of UTC, share of people
    ("US", "en", -6, 0.34), ("GB", "en", 0, 0.14), ("IN", "en", 5, 0.12), ("MX", "es", -6, 0.08), ("ES", "es", 1, 0.06),
    ("BR", "pt", -3, 0.11), ("FR", "fr", 1, 0.07), ("DE", "de", 1, 0.08),
)
AGE_GROUPS = ("13-17", "18-24", "25-34", "35-49", "50+")
DEVICES = ("android", "ios", "web")
MEDIA = ("text", "image", "video")
HARMS = ("toxicity", "nsfw", "spam", "misinformation")


@dataclass(frozen=True)
class People:
    """Everybody, by position. Every array has n rows."""

    created: np.ndarray
    """int64 µs"""
    country: np.ndarray
    """int8 places in COUNTRIES"""
    language: np.ndarray
    """int8 places in LANGUAGES"""
    age_group: np.ndarray
    """int8 places in AGE_GROUPS"""
    device: np.ndarray
    """int8 the device used most, places in DEVICES"""
    communities: np.ndarray
    """int16[n, 3], -1 where there are fewer"""
    interest_topics: np.ndarray
    """int16[n, INTERESTS], -1 where there are fewer; strongest first"""
    interest_weights: np.ndarray
    """float32[n, INTERESTS], 0 to 1, 0 where there is no topic"""
    affinity: np.ndarray
    """float32[n, topics], dense: the weights above, and a little for the rest of one's communities"""
    taste: np.ndarray
    """float32[n, taste_dim]"""
    media: np.ndarray
    """float32[n, 3] liking of each media type, around zero"""
    tolerance: np.ndarray
    """float32 0 to 1: how little harmful content bothers somebody"""
    person: np.ndarray
    """float32 how readily somebody clicks, around zero"""
    reaction: np.ndarray
    """float32 how readily somebody likes, replies and reposts, around zero"""
    activity: np.ndarray
    """float32 log-odds of opening the product on a day"""
    requests: np.ndarray
    """float32 relative number of requests on such a day, 1 on average"""
    publishing: np.ndarray
    """float32 relative rate of publishing, 0 for those who only read"""
    quality: np.ndarray
    """float32 how good somebody's items are, around zero"""
    harms: np.ndarray
    """float32[n, 4] tendency to each of HARMS, 0 to 1"""

    def __len__(self) -> int:
        return len(self.created)

    @property
    def utc_offset(self) -> np.ndarray:
        """int64 hours ahead of UTC"""
        return np.array([c[2] for c in COUNTRIES], np.int64)[self.country]


def log_start(config: WorldConfig) -> int:
    """The first moment of the log in µs."""
    midnight = dt.datetime.combine(config.start, dt.time(), tzinfo=dt.UTC)
    return int(midnight.timestamp()) * SECOND


def community_of_topic(config: WorldConfig) -> np.ndarray:
    """int16[topics]: topics are dealt to communities in contiguous runs of nearly equal length."""
    return (np.arange(config.topics, dtype=np.int64) * config.communities // config.topics).astype(np.int16)


def make_people(config: WorldConfig, seed: int) -> People:
    """Everybody of the world, from the seed alone."""
    n = config.users
    rng = generator(seed, "people")
    communities, topics, weights = _interests(config, rng)
    country = weighted_choice(rng, np.array([c[3] for c in COUNTRIES]), n).astype(np.int8)
    language = np.array([LANGUAGES.index(c[1]) for c in COUNTRIES], np.int8)[country]
    taste = _tastes(config, rng, communities)
    created = _joined(config, rng)
    # who joins while the log runs has published nothing before it, and keeps to reading
    publishes = (rng.random(n) < config.author_share) & (created < log_start(config))
    if not publishes.any():
        publishes[0] = True
    harms = (rng.random((n, 4)) < 0.04) * rng.beta(4, 2, (n, 4)) + rng.beta(1, 14, (n, 4))
    requests = np.exp(rng.normal(0, 0.6, n) - 0.18)
    return People(
        created=created, country=country, language=language,
        age_group=weighted_choice(rng, np.array([0.06, 0.24, 0.32, 0.25, 0.13]), n).astype(np.int8),
        device=weighted_choice(rng, np.array([0.45, 0.35, 0.2]), n).astype(np.int8),
        communities=communities, interest_topics=topics, interest_weights=weights,
        affinity=_affinity(config, communities, topics, weights), taste=taste,
        media=rng.normal(0, 1, (n, 3)).astype(np.float32) * np.float32(0.5),
        tolerance=rng.beta(1.5, 4, n).astype(np.float32), person=rng.normal(0, 1, n).astype(np.float32),
        reaction=rng.normal(0, 1, n).astype(np.float32), activity=rng.normal(0.4, 1.0, n).astype(np.float32),
        requests=requests.astype(np.float32),
        publishing=(publishes * np.exp(rng.normal(0, 0.9, n))).astype(np.float32),
        quality=rng.normal(0, 1, n).astype(np.float32), harms=np.minimum(harms, 1).astype(np.float32),
    )


def _joined(config: WorldConfig, rng: np.random.Generator) -> np.ndarray:
    start = log_start(config)
    ago = (config.prelude_days + 1 + rng.random(config.users) ** 2 * 1500) * DAY
    later = rng.random(config.users) * config.days * DAY * 0.9
    joins_later = rng.random(config.users) < config.new_user_share
    joins_later[0] = False
    return (start + np.where(joins_later, later, -ago)).astype(np.int64)


def _interests(config: WorldConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One to three communities each, and within them a few topics each (plus one from anywhere)."""
    n, home = config.users, community_of_topic(config)
    first = np.searchsorted(home, np.arange(config.communities))
    size = np.bincount(home, minlength=config.communities)
    popularity = 1.0 / np.arange(1, config.communities + 1) ** 0.7
    popularity = rng.permutation(popularity)
    communities = weighted_choice(rng, popularity, 3 * n).reshape(n, 3).astype(np.int16)
    count = weighted_choice(rng, np.array([0.35, 0.4, 0.25]), n) + 1
    communities[np.arange(3) >= count[:, None]] = -1
    strength = np.array([1.0, 0.75, 0.55], np.float32)[None, :] * (communities >= 0)
    # three draws in each community and one from all topics: repeats simply make a topic stronger
    topics = np.full((n, INTERESTS), -1, np.int16)
    weights = np.zeros((n, INTERESTS), np.float32)
    for place in range(9):
        community = communities[:, place // 3]
        draw = rng.random(n) ** 1.5
        topic = first[community] + (draw * size[community]).astype(np.int64)
        topics[:, place] = np.where(community >= 0, topic, -1)
        weights[:, place] = strength[:, place // 3] * (0.35 + 0.65 * rng.random(n))
    topics[:, 9] = rng.integers(0, config.topics, n)
    weights[:, 9] = 0.2 + 0.4 * rng.random(n)
    return communities, *_merge_repeats(topics, weights)


def _merge_repeats(topics: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each topic once a row with its greatest weight, strongest first."""
    weights = np.where(topics >= 0, weights, 0)
    order = np.argsort(-weights, axis=1, kind="stable")
    topics, weights = np.take_along_axis(topics, order, 1), np.take_along_axis(weights, order, 1)
    for place in range(1, topics.shape[1]):
        again = (topics[:, :place] == topics[:, place : place + 1]).any(axis=1)
        topics[again, place] = -1
    weights = np.where(topics >= 0, weights, 0)
    order = np.argsort(-weights, axis=1, kind="stable")
    return np.take_along_axis(topics, order, 1), np.take_along_axis(weights, order, 1).astype(np.float32)


def _affinity(config: WorldConfig, communities: np.ndarray, topics: np.ndarray, weights: np.ndarray) -> np.ndarray:
    n, home = config.users, community_of_topic(config)
    in_community = np.zeros((n, config.communities), bool)
    row, column = np.nonzero(communities >= 0)
    in_community[row, communities[row, column]] = True
    affinity = np.where(in_community[:, home], np.float32(0.15), np.float32(0))
    row, column = np.nonzero(topics >= 0)
    affinity[row, topics[row, column]] = np.maximum(affinity[row, topics[row, column]], weights[row, column])
    # row after row in memory: the behaviour model looks up one person at a time
    return np.ascontiguousarray(affinity)


def _tastes(config: WorldConfig, rng: np.random.Generator, communities: np.ndarray) -> np.ndarray:
    """Hidden vectors that lie around the centre of one's first community, of length about 1 a dimension."""
    centre = rng.normal(0, 0.6, (config.communities, config.taste_dim))
    own = rng.normal(0, 0.8, (config.users, config.taste_dim))
    return (centre[communities[:, 0]] + own).astype(np.float32)
