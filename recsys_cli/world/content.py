"""What is published in the world: items with topics, text, media, hidden traits and noisy labels."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.data.schema import DAY, HOUR, SAFETY_COLUMNS
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.people import HARMS, LANGUAGES, MEDIA, People, log_start
from recsys_cli.world.randomness import generator, row_choice, weighted_choice
from recsys_cli.world.words import COMMON, SHARED_BY_HARM, WORDS_PER_TOPIC, topic_names, topic_words

HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 7, 6, 6, 7, 7, 6, 6, 6, 7, 8, 9, 10, 9, 7, 4], np.float64)
"""Relative activity by local hour."""
WEEKDAYS = np.array([1.0, 1.0, 1.02, 1.02, 1.08, 1.2, 1.18])
"""Relative activity by weekday, Monday first."""
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday


@dataclass(frozen=True)
class Content:
    """Items by position, oldest first. Every array has one row an item."""

    author: np.ndarray
    """int32 people"""
    created: np.ndarray
    """int64 µs, ascending"""
    topics: np.ndarray
    """int16[n, 2], the second -1 where there is one only"""
    media: np.ndarray
    """int8 places in MEDIA"""
    language: np.ndarray
    """int8 places in LANGUAGES"""
    duration: np.ndarray
    """float32 seconds of a video, NaN for other media"""
    quality: np.ndarray
    """float32 hidden: the author's quality and the item's own, around zero"""
    taste: np.ndarray
    """float32[n, taste_dim] hidden"""
    harms: np.ndarray
    """float32[n, 4] hidden: true degree of each of HARMS, 0 to 1"""

    def __len__(self) -> int:
        return len(self.author)

    def then(self, later: Content) -> Content:
        """These items with later ones after them."""
        return Content(*(np.concatenate([getattr(self, f.name), getattr(later, f.name)]) for f in fields(self)))

    def part(self, rows: slice) -> Content:
        return Content(*(getattr(self, f.name)[rows] for f in fields(self)))


def weekday_weight(day_start: np.ndarray) -> np.ndarray:
    """Relative activity on the days that start at these moments (µs)."""
    return WEEKDAYS[(np.asarray(day_start) // DAY + _EPOCH_WEEKDAY) % 7]


def make_content(config: WorldConfig, people: People, seed: int) -> Content:
    """The items of the log, published from `prelude_days` before it to its end."""
    first = log_start(config) - config.prelude_days * DAY
    return _publish(config, people, seed, "content", first, config.prelude_days + config.days, config.items)


def make_future(config: WorldConfig, people: People, seed: int) -> Content:
    """The items of the `horizon_days` after the log, published at the same rate."""
    rate = config.items / (config.prelude_days + config.days)
    count = round(rate * config.horizon_days)
    return _publish(
        config, people, seed, "future", log_start(config) + config.days * DAY, config.horizon_days, count
    )


def _publish(config: WorldConfig, people: People, seed: int, purpose: str, first: int, days: int, n: int) -> Content:
    rng = generator(seed, purpose)
    author = weighted_choice(rng, people.publishing, n)
    day = weighted_choice(rng, weekday_weight(first + np.arange(days) * DAY), n) if n else np.zeros(0, np.int64)
    hour = (weighted_choice(rng, HOURS, n) - people.utc_offset[author]) % 24
    created = first + day * DAY + hour * HOUR + (rng.random(n) * HOUR).astype(np.int64)
    order = np.argsort(created, kind="stable")
    author, created = author[order].astype(np.int32), created[order]
    topics = _topics(config, people, rng, author)
    media = row_choice(rng, np.exp(0.8 * people.media[author] + np.log([0.5, 0.3, 0.2]))).astype(np.int8)
    duration = np.where(media == 2, np.exp(rng.normal(3.2, 0.8, n)).clip(3, 600), np.nan)
    centre = generator(seed, "taste of topics").normal(0, 0.6, (config.topics, config.taste_dim))
    taste = 0.5 * people.taste[author] + centre[topics[:, 0]] + rng.normal(0, 0.6, (n, config.taste_dim))
    return Content(
        author=author, created=created, topics=topics, media=media, language=people.language[author],
        duration=duration.astype(np.float32),
        quality=(0.75 * people.quality[author] + 0.65 * rng.normal(0, 1, n)).astype(np.float32),
        taste=taste.astype(np.float32), harms=_harms(rng, people, author),
    )


def _topics(config: WorldConfig, people: People, rng: np.random.Generator, author: np.ndarray) -> np.ndarray:
    """The first topic from the author's interests, sharpened; often a second one."""
    weights = people.interest_weights[author] ** 3
    rows = np.arange(len(author))
    first = people.interest_topics[author][rows, row_choice(rng, weights)]
    second = people.interest_topics[author][rows, row_choice(rng, weights)]
    anywhere = rng.integers(0, config.topics, len(author)).astype(np.int16)
    second = np.where(rng.random(len(author)) < 0.1, anywhere, second)
    second = np.where((second == first) | (rng.random(len(author)) < 0.3), -1, second)
    return np.stack([first, second], axis=1).astype(np.int16)


def _harms(rng: np.random.Generator, people: People, author: np.ndarray) -> np.ndarray:
    """Now and then an item is harmful, far more often where its author tends to it."""
    tendency = people.harms[author]
    bad = rng.random(tendency.shape) < 0.01 + 0.6 * tendency**1.5
    degree = np.where(bad, rng.beta(5, 2.5, tendency.shape), rng.beta(1, 20, tendency.shape))
    return degree.astype(np.float32)


def items_table(config: WorldConfig, content: Content, people: People, seed: int, first: int = 0) -> pa.Table:
    """The rows of `items.parquet` for these items; the first has position `first`.

    Item ids are positions plus one, author ids likewise.
    """
    n = len(content)
    names = pa.array(topic_names(config.topics))
    flat = content.topics.ravel()
    topics = pa.ListArray.from_arrays(
        pa.array(offsets_of((content.topics >= 0).sum(axis=1)).astype(np.int32)), names.take(pa.array(flat[flat >= 0]))
    )
    labels = _labels(config, content, seed, first)
    return pa.table({
        "item_id": pa.array(np.arange(first + 1, first + n + 1, dtype=np.int64)),
        "author_id": pa.array(content.author.astype(np.int64) + 1),
        "created_at": pa.array(content.created, pa.timestamp("us", "UTC")),
        "text": _texts(config, content, people, seed, first),
        "topics": topics,
        "media_type": pa.array(MEDIA).take(pa.array(content.media)),
        "language": pa.array(LANGUAGES).take(pa.array(content.language)),
        "duration_seconds": pa.array(content.duration, mask=np.isnan(content.duration)),
        **{name: pa.array(labels[:, HARMS.index(name)]) for name in SAFETY_COLUMNS},
    })


def _labels(config: WorldConfig, content: Content, seed: int, first: int) -> np.ndarray:
    """What a classifier would say: the true degree with noise, and now and then something else altogether."""
    rng = generator(seed, "labels", first)
    noisy = content.harms + rng.normal(0, config.label_noise, content.harms.shape)
    wrong = rng.random(content.harms.shape) < 0.01
    return np.where(wrong, rng.random(content.harms.shape), noisy).clip(0, 1).astype(np.float32)


def _texts(config: WorldConfig, content: Content, people: People, seed: int, first: int) -> pa.Array:
    """A text an item: words of its topics among common words, words of its harms, hashtags, a mention."""
    rng = generator(seed, "texts", first)
    words = _Vocabulary(config, len(people))
    n = len(content)
    length = (6 + rng.gamma(2.0, 3.0, n)).astype(np.int64).clip(4, 40)
    places, _ = expand(np.zeros(n, np.int64), length, np.zeros(41, np.int8))
    m = len(places)
    second = (rng.random(m) < 0.3) & (content.topics[places, 1] >= 0)
    topic = np.where(second, content.topics[places, 1], content.topics[places, 0]).astype(np.int64)
    token = words.topic + topic * WORDS_PER_TOPIC + (rng.random(m) ** 2 * WORDS_PER_TOPIC).astype(np.int64)
    common = rng.random(m) < 0.55
    token[common] = words.common_word(rng, content.language[places[common]])
    for j in range(len(HARMS)):
        shows = rng.random(m) < 0.35 * content.harms[places, j] ** 2
        token[shows] = words.harm_word(rng, j, int(shows.sum()))
    extra_place, extra_token = _endings(rng, content, words)
    place = np.concatenate([places, extra_place])
    flat = Ragged.group(place, np.concatenate([token, extra_token]), n)
    tokens = pa.ListArray.from_arrays(pa.array(flat.offsets.astype(np.int32)), words.words.take(pa.array(flat.values)))
    return pc.binary_join(tokens, " ")


def _endings(rng: np.random.Generator, content: Content, words: _Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Hashtags of the topics, and mentions of other authors: (item, token) pairs."""
    n = len(content)
    rows, column = np.nonzero(content.topics >= 0)
    tagged = rng.random(len(rows)) < 0.5
    hashtags = words.hashtag + content.topics[rows[tagged], column[tagged]].astype(np.int64)
    mention = np.flatnonzero(rng.random(n) < 0.12)
    somebody = content.author[rng.integers(0, max(n, 1), len(mention))].astype(np.int64)
    return np.concatenate([rows[tagged], mention]), np.concatenate([hashtags, words.mention + somebody])


class _Vocabulary:
    """All tokens in one Arrow array; the fields say where each kind begins."""

    def __init__(self, config: WorldConfig, n_people: int):
        by_topic = topic_words(config.topics)
        common = [COMMON[language].split() for language in LANGUAGES]
        harm = [SHARED_BY_HARM[name].split() for name in HARMS]
        self.topic = 0
        self._common = len(by_topic) + offsets_of(np.array([len(w) for w in common]))
        self._harm = self._common[-1] + offsets_of(np.array([len(w) for w in harm]))
        self.hashtag = int(self._harm[-1])
        self.mention = self.hashtag + config.topics
        fixed = [*by_topic, *chain(*common, *harm), *(f"#{t}" for t in topic_names(config.topics))]
        ids = pc.cast(pa.array(np.arange(1, n_people + 1)), pa.string())
        mentions = pc.binary_join_element_wise(pa.scalar("@user"), ids, "")
        self.words = pa.concat_arrays([pa.array(fixed), mentions])

    def common_word(self, rng: np.random.Generator, language: np.ndarray) -> np.ndarray:
        low, high = self._common[language], self._common[language.astype(np.int64) + 1]
        return low + (rng.random(len(language)) * (high - low)).astype(np.int64)

    def harm_word(self, rng: np.random.Generator, harm: int, count: int) -> np.ndarray:
        return rng.integers(self._harm[harm], self._harm[harm + 1], count)


