"""A small dataset with a run of its own, and random events upon it: what the server's log and state are tested with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.state import State
from recsys_cli.engine import RecommendationEngine
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.define import create_spec
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.pipeline.bundle import Bundle, Labels
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.serving.events import Event, EventRules, Served

HOUR = 3_600_000_000
START = 1_760_000_000_000_000
END = START + 96 * HOUR
ACTIONS = {"click": "positive", "like": "positive", "follow": "positive", "hide": "negative", "mute": "negative"}
RULES = EventRules(actions=tuple(ACTIONS), late_days=10_000, integer_users=True, integer_items=True)
USERS, ITEMS = 30, 60
PIPELINE = PipelineConfig.model_validate({"sourcing": {"shares": {"item_neighbours": 1}, "fallback": ["popularity"]}})
TOPICS, MEDIA, SURFACES, DEVICES = ("art", "food", "news"), ("text", "video"), ("feed", "search"), ("phone", "web")


@dataclass(frozen=True)
class LawWorld:
    """A dataset and the engine of a run upon it."""

    dataset: Dataset
    engine: RecommendationEngine


def make_world(folder: Path, seed: int = 0) -> LawWorld:
    """Users 100 …, items 1000 …; authors are users."""
    rng = np.random.default_rng(seed)
    return world_of(Dataset.from_frames(folder, _tables(rng), ACTIONS, name="law", authors_are_users=True))


def world_of(dataset: Dataset) -> LawWorld:
    """A run upon a dataset."""
    return LawWorld(dataset, RecommendationEngine(_bundle(dataset), PIPELINE))


def _moments(values) -> pl.Series:
    return pl.Series(values, dtype=pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _tables(rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    n = 700
    click = rng.random(n) < 0.4
    users = pl.DataFrame({
        "user_id": np.arange(100, 100 + USERS), "country": rng.choice(["de", "fr"], USERS),
        "age": rng.integers(16, 80, USERS).astype(float),
        "created_at": _moments(START - rng.integers(1, 99, USERS) * HOUR),
    })
    items = pl.DataFrame({
        "item_id": np.arange(1000, 1000 + ITEMS), "author_id": rng.integers(100, 100 + USERS, ITEMS),
        "created_at": _moments(START + rng.integers(-50, 60, ITEMS) * HOUR),
        "text": [" ".join(rng.choice(["cat", "dog", "#sun", "rain", "blue"], 3)) for _ in range(ITEMS)],
        "topics": [list(rng.choice(TOPICS, rng.integers(1, 3), replace=False)) for _ in range(ITEMS)],
        "media_type": rng.choice(MEDIA, ITEMS), "duration_seconds": rng.choice([5.0, 30.0, 90.0], ITEMS),
        "nsfw": rng.random(ITEMS),
    })
    impressions = pl.DataFrame({
        "user_id": rng.integers(100, 100 + USERS, n), "item_id": rng.integers(1000, 1000 + ITEMS, n),
        "timestamp": _moments(np.sort(START + rng.integers(0, 96 * 60, n) * HOUR // 60)),
        "position": rng.integers(0, 10, n), "surface": rng.choice(SURFACES, n), "device": rng.choice(DEVICES, n),
        "propensity": rng.random(n), "dwell_seconds": rng.gamma(1, 10, n), "request_id": np.arange(n) // 5,
        "session_id": np.arange(n) // 20, "source": "old", "click": click, "like": click & (rng.random(n) < 0.5),
        "follow": rng.random(n) < 0.05, "hide": rng.random(n) < 0.05, "mute": rng.random(n) < 0.03,
    })
    pairs = rng.choice(USERS * USERS, 80, replace=False)
    edges = {"follower_id": 100 + pairs // USERS, "followee_id": 100 + pairs % USERS}
    blocks = pl.DataFrame({"user_id": [100, 101], "author_id": [105, 106], "kind": ["block", "mute"]})
    return {
        "users": users, "items": items, "impressions": impressions, "follows": pl.DataFrame(edges), "blocks": blocks
    }


def _bundle(dataset: Dataset) -> Bundle:
    catalogue, log = dataset.catalogue, dataset.log
    follows, blocks = dataset.edges("follows"), dataset.edges("blocks")
    now = int(log.time[-1]) + 1
    state = State.build(catalogue, log, now, follows, blocks)
    sources = {}
    for kind in ("item_neighbours", "popularity"):
        sources[kind] = SOURCES[kind](SOURCES[kind].config_type())
        sources[kind].fit(Window(dataset, catalogue, log, now, state), Progress())
    spec = create_spec(
        FeatureConfig(), catalogue, positive=log.positive_actions, negative=log.negative_actions, has_dwell=True,
        surfaces=SURFACES, devices=DEVICES, similarities=(), context={},
    )
    return Bundle(
        user_ids=dataset.user_ids, item_ids=dataset.item_ids, author_ids=dataset.author_ids, catalogue=catalogue,
        state=state, spec=spec, snapshot=Snapshot.build(spec, catalogue, log, now, follows, blocks),
        retrievers=sources, configured=tuple(sources), light=None, heavy=None,
        negative_actions=log.negative_actions, candidates=60,
        labels=Labels(np.zeros(catalogue.n_items + 1, np.int64), np.zeros(0, np.uint8)),
    )


def some_events(rng: np.random.Generator, n: int, *, undo: bool = False) -> list[Event]:
    """n events of all kinds within some hours after the log, out of order, late ones, strangers and new items among
    them. undo: also edges that are taken back."""
    out: list[Event] = []
    new_items = [str(2000 + k) for k in range(4)]
    for k in range(n):
        user = str(rng.integers(100, 100 + USERS + 4))
        item = str(rng.choice([*(str(i) for i in range(1000, 1000 + ITEMS)), *new_items]))
        time = END + 6 * HOUR * k // n + int(rng.integers(0, HOUR // 2))
        if rng.random() < 0.05:
            time = END - int(rng.integers(1, 30 * HOUR))
        request = f"r{k // 12 + int(rng.integers(0, 2))}" if rng.random() < 0.8 else None
        common = {"timestamp": time, "request_id": request, "event_id": f"e{k}" if rng.random() < 0.7 else None}
        draw = rng.random()
        if draw < 0.45:
            more = {"surface": str(rng.choice(SURFACES)), "device": "phone", "position": int(rng.integers(0, 9))}
            out.append(Event("impression", user, item, propensity=0.5, **more, **common))
        elif draw < 0.8:
            out.append(Event(str(rng.choice([*ACTIONS, "see_less"])), user, item, **common))
        elif draw < 0.86:
            out.append(Event("dwell", user, item, dwell_seconds=float(rng.integers(1, 90)), **common))
        elif draw < 0.91:
            kinds = ["follow", "block", "mute", *(["unfollow", "unblock", "unmute"] if undo else [])]
            author = str(rng.integers(100, 100 + USERS + 2))
            out.append(Event(str(rng.choice(kinds)), user, author_id=author, timestamp=time))
        elif draw < 0.95:
            out.append(_described(rng, str(rng.choice(new_items[:3])), time))
        elif draw < 0.98 and request:
            shown = [str(i) for i in rng.choice(np.arange(1000, 1000 + ITEMS), 5, replace=False)]
            served = Served(shown, "run", "a", [0.1] * 5, ["popularity"] * 5, surface="feed",
                            utilities=[0.5 - place / 10 for place in range(5)])
            out.append(Event("served", user, request_id=request, served=served, timestamp=time))
        else:
            out.append(Event("user", user, attributes={"country": "de", "age": 33}, timestamp=time))
    return out


def _described(rng: np.random.Generator, item: str, time: int) -> Event:
    attributes = {
        "author_id": 100 + int(item) % 7, "text": "cat #sun", "topics": ["art"], "media_type": "video",
        "duration_seconds": 30.0, "nsfw": 0.25,
    }
    return Event("item", item_id=item, attributes=attributes, timestamp=time)
