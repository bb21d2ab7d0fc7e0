"""What people do with what they are shown: the one model behind the log and behind simulated experiments.

Each action is an independent coin whose log-odds are linear in the effects below; seconds of dwell are
log-logistic. What makes actions go together is that they depend on the same effects. Randomness is a
function of (seed, user, item, time): the same item shown to the same user at the same moment in the same
place of the same slate gets the same response, whoever shows it.

| effect | measured as |
|---|---|
| affinity | the user's interest in the item's topics: the stronger plus 0.3 of the weaker, about 0 to 1.3 |
| taste | product of two hidden vectors, around 0, standard deviation near 1 |
| tie | strength of the tie to an author whom the user follows, 0.3 to 1.5, else 0 |
| quality | of the author and the item, around 0 |
| freshness | 1 at publication, halved every two days |
| position | log(1 + place in the slate) |
| fatigue | items of the same author above it in the slate, plus half of those of the same topic |
| depth | log(1 + earlier requests in the session) |
| harm | sum of the four degrees of harm, times what the user does not tolerate |
| language | 1 where the item's language is not the user's |
| media | how much the user likes this type of media, around 0; video counts more on the video surface |
| person, reaction | the user's own readiness to click, and to like, repost and reply, around 0 |
| mobile, explore, evening | 1 on a phone, on the surface `explore`, from 18 to 24 o'clock local time |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.data.schema import DAY, HOUR, NEGATIVE_ACTIONS
from recsys_cli.world.config import ACTIONS, BehaviourConfig
from recsys_cli.world.content import Content
from recsys_cli.world.people import DEVICES, People
from recsys_cli.world.randomness import event_keys, event_uniforms
from recsys_cli.world.visits import SURFACES

FRESHNESS_HALF_LIFE = 2 * DAY
TYPICAL_VALUE = 0.25
"""Mean value of an impression (see `satisfy`) that leaves people neither pleased nor displeased."""
MOST_LOG_SECONDS = np.float32(20)
"""Bound of the logarithm of seconds before noise, so that they stay finite whatever the weights are."""
_WEB = DEVICES.index("web")
_EXPLORE, _VIDEO = SURFACES.index("explore"), SURFACES.index("video")


@dataclass(frozen=True)
class Shown:
    """n items shown, one row each; arrays of n."""

    user: np.ndarray
    """int32"""
    item: np.ndarray
    """int32"""
    time: np.ndarray
    """int64 µs"""
    position: np.ndarray
    """int16 place in the slate, 0 is the top"""
    fatigue: np.ndarray
    """float32, see `slate_fatigue`"""
    depth: np.ndarray
    """int16 earlier requests in the session"""
    surface: np.ndarray
    """int8"""
    device: np.ndarray
    """int8"""
    tie: np.ndarray
    """float32 strength of the tie to the author, 0 where the user does not follow"""


@dataclass(frozen=True)
class Odds:
    """What the model expects of n items shown."""

    actions: list[np.ndarray]
    """float32[n] probability of each of ACTIONS"""
    dwell_log: np.ndarray
    """float32[n] location of the logarithm of the seconds without a click"""
    dwell_mean: np.ndarray
    """float32[n] expected seconds"""


def slate_fatigue(items: np.ndarray, content: Content) -> np.ndarray:
    """float32[R, S] items of the same author above each place, plus half of those of the same first topic.

    items: int32[R, S], -1 where a place is empty.
    """
    known = np.maximum(items, 0)
    author = np.where(items >= 0, content.author[known], -1)
    topic = np.where(items >= 0, content.topics[known, 0], -1)
    out = np.zeros(items.shape, np.float32)
    for place in range(1, items.shape[1]):
        for above in range(place):
            out[:, place] += author[:, place] == author[:, above]
            out[:, place] += np.float32(0.5) * (topic[:, place] == topic[:, above])
    out[items < 0] = 0
    return out


class Behaviour:
    """The model over the people and items of one world."""

    def __init__(self, config: BehaviourConfig, people: People, content: Content):
        self.config = config
        self.people = people
        self.content = content
        # bound once: gathers from narrow tables are what this model spends its time on
        self._sociable = (np.float32(1) - people.tolerance).astype(np.float32)
        self._harm = content.harms.sum(axis=1, dtype=np.float32)
        self._length = np.log(np.fmax(content.duration, 1)).astype(np.float32)
        self._offset = people.utc_offset
        self._topics = people.affinity.shape[1]
        self._scale = np.float32(1 / np.sqrt(people.taste.shape[1]) / 0.85)

    def effects(self, shown: Shown) -> dict[str, np.ndarray]:
        """Effect → float32[n], as the table at the top says."""
        people, content, user, item = self.people, self.content, shown.user, shown.item
        hour = (shown.time // HOUR + self._offset[user]) % 24
        age = (shown.time - content.created[item]).astype(np.float32) * np.float32(1 / FRESHNESS_HALF_LIFE)
        media = content.media[item]
        liking = people.media[user, media]
        liking = liking + ((media == 2) & (shown.surface == _VIDEO))
        return {
            "affinity": self.affinity(user, item),
            "taste": np.einsum("nd,nd->n", people.taste[user], content.taste[item]) * self._scale,
            "tie": shown.tie, "quality": content.quality[item], "freshness": np.exp2(-np.maximum(age, 0)),
            "position": np.log1p(shown.position.astype(np.float32)), "fatigue": shown.fatigue,
            "depth": np.log1p(shown.depth.astype(np.float32)),
            "harm": self._harm[item] * self._sociable[user],
            "language": (people.language[user] != content.language[item]).astype(np.float32),
            "media": liking, "person": people.person[user], "reaction": people.reaction[user],
            "mobile": (shown.device != _WEB).astype(np.float32),
            "explore": (shown.surface == _EXPLORE).astype(np.float32), "evening": (hour >= 18).astype(np.float32),
        }

    def affinity(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """float32[n] the stronger interest among the item's topics plus 0.3 of the weaker."""
        flat, base = self.people.affinity.ravel(), user.astype(np.int64) * self._topics
        first = flat[base + self.content.topics[item, 0]]
        second_topic = self.content.topics[item, 1]
        second = np.where(second_topic >= 0, flat[base + second_topic], np.float32(0))
        return np.maximum(first, second) + np.float32(0.3) * np.minimum(first, second)

    def odds(self, shown: Shown) -> Odds:
        """Probabilities of the actions and the location of dwell."""
        effects, config = self.effects(shown), self.config
        probabilities = []
        for action in ACTIONS:
            z = _linear(config.intercepts[action], config.weights[action], effects)
            probabilities.append(_sigmoid(z))
        follow = ACTIONS.index("follow")
        # nobody follows the same person twice
        probabilities[follow] = np.where(shown.tie > 0, np.float32(0), probabilities[follow])
        location = _linear(config.dwell_intercept, config.dwell_weights, effects)
        location += np.float32(config.dwell_length) * self._length[shown.item]
        location = np.minimum(location, MOST_LOG_SECONDS)
        s = np.pi * config.dwell_noise
        spread = np.float32(s / np.sin(s) if s > 0 else 1.0)
        clicked = np.float32(np.expm1(config.dwell_click))
        mean = np.exp(location) * (np.float32(1) + clicked * probabilities[0]) * spread
        return Odds(probabilities, location, mean)

    def respond(self, shown: Shown, odds: Odds, seed: int, salt: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
        """bool[n] for each of ACTIONS, and float32[n] seconds of dwell."""
        keys = event_keys(seed, salt, shown.user, shown.item, shown.time)
        uniforms = event_uniforms(keys, len(ACTIONS) + 1)
        actions = [u < p for u, p in zip(uniforms, odds.actions, strict=False)]
        noise = uniforms[-1]
        noise = np.log(noise / (np.float32(1) - noise)) * np.float32(self.config.dwell_noise)
        location = odds.dwell_log + np.float32(self.config.dwell_click) * actions[0]
        return actions, np.exp(location + noise)


def satisfy(
    previous: np.ndarray, user: np.ndarray, actions: dict[str, np.ndarray], dwell: np.ndarray
) -> np.ndarray:
    """Satisfaction after a day, float32[users] around zero, within ±2.

    previous: the satisfaction before it. user: int[n] places in `previous` of the items shown that day;
    actions: bool[n] each; dwell: float32[n] seconds. A day counts 0.3; who saw nothing keeps theirs.
    """
    n = len(previous)
    positive, negative = np.zeros(len(user), bool), np.zeros(len(user), bool)
    for name, done in actions.items():
        if name in NEGATIVE_ACTIONS:
            negative |= done
        else:
            positive |= done
    value = positive - 2.0 * negative + 0.2 * (np.log(np.maximum(dwell, 0.1)) - 1.0)
    shown = np.bincount(user, minlength=n)
    mean = np.bincount(user, weights=value, minlength=n) / np.maximum(shown, 1)
    today = np.clip(4.0 * (mean - TYPICAL_VALUE), -2, 2)
    return np.where(shown > 0, 0.7 * previous + 0.3 * today, previous).astype(np.float32)


def _linear(intercept: float, weights: dict[str, float], effects: dict[str, np.ndarray]) -> np.ndarray:
    # added one by one: a matrix product may round differently with the number of threads
    n = len(effects["tie"])
    z = np.full(n, intercept, np.float32)
    term = np.empty(n, np.float32)
    for name, weight in weights.items():
        if weight:
            np.multiply(effects[name], np.float32(weight), out=term)
            z += term
    return z


def _sigmoid(z: np.ndarray) -> np.ndarray:
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += np.float32(1)
    return np.reciprocal(z, out=z)
