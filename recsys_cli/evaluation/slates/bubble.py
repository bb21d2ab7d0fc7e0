"""Filter bubbles: how far a run's lists narrow over sessions in which people take what stands first.

Lists follow what was taken (Nguyen et al., "Exploring the Filter Bubble", WWW 2014, measure how contents narrow).
The same sessions without anything taken tell what narrows by itself because items run out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.engine import RecommendationEngine
from recsys_cli.evaluation.intervals import bootstrap_means

HOUR = 3_600_000_000
"""µs between two sessions."""
TAKEN = 3
"""Items from the top of each list that everybody takes."""
MOST = 300
"""People at most, drawn with the seed."""


def filter_bubble(
    engine: RecommendationEngine, log: Log, edges: Mapping[str, Any], users: np.ndarray, sessions: int, *,
    resamples: int, seed: int,
) -> dict[str, Any]:
    """The index of a run and how it comes about: "users", "sessions", "taken", "index", "rows".

    Session after session everybody is shown a slate, an hour apart: once they take its first `TAKEN` items (the first
    positive action), once nothing. Rows: "session", "taking" and "leaving", the effective number of topics of the
    lists, exp of their entropy, with intervals. "index": 1 − taking ÷ leaving in the last session, user by user; 0
    where lists do not follow what is taken, 1 where one topic is left of very many. log: up to the moment of `engine`.
    """
    users = users if len(users) <= MOST else np.sort(np.random.default_rng(seed).choice(users, MOST, replace=False))
    counts = {}
    for kind, takes in (("taking", TAKEN), ("leaving", 0)):
        now, held, past = engine.state.now, log.window(end=engine.state.now), engine
        counts[kind] = np.empty((len(users), sessions))
        for session in range(sessions):
            slates = past.slates(users).items
            counts[kind][:, session] = effective_topics(slates, engine.state.catalogue.item_topics)
            if session + 1 < sessions:
                held = Log.concat(held, shown(held, users, slates, now, takes))
                now += HOUR
                past = past.as_of(held, now, **edges)
    with np.errstate(invalid="ignore", divide="ignore"):
        index = 1 - counts["taking"][:, -1:] / counts["leaving"][:, -1:]
    table = np.concatenate([counts["taking"], counts["leaving"], index], axis=1)
    means = bootstrap_means(table, resamples=resamples, seed=seed)
    found = [dict(zip(("value", "low", "high"), map(float, f), strict=True)) for f in zip(*means, strict=True)]
    rows = [
        {"session": s + 1, "taking": found[s], "leaving": found[sessions + s]} for s in range(sessions)
    ]
    return {"users": len(users), "sessions": sessions, "taken": TAKEN, "index": found[-1], "rows": rows}


def effective_topics(slates: np.ndarray, topics: Ragged) -> np.ndarray:
    """float64[B]: exp of the entropy of the topics of each list, an item's topics sharing its weight; NaN without any.

    slates: int32[B, K], -1 in empty slots. topics: by item.
    """
    row, slot = np.nonzero(slates >= 0)
    items = slates[row, slot]
    place, topic = topics.take(items)
    weight = 1.0 / topics.lengths[items][place]
    width = int(topics.values.max(initial=0)) + 1
    mass = np.bincount(row[place] * width + topic, weights=weight, minlength=len(slates) * width)
    mass = mass.reshape(len(slates), width)
    total = mass.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = mass / total
        entropy = -np.where(share > 0, share * np.log(share), 0.0).sum(axis=1)
    return np.where(total[:, 0] > 0, np.exp(entropy), np.nan)


def shown(log: Log, users: np.ndarray, slates: np.ndarray, now: int, takes: int) -> Log:
    """Impressions of slates at a moment (µs), whose first `takes` items are taken; otherwise as the log's last row."""
    row, slot = np.nonzero(slates >= 0)
    n = len(row)
    like = log.take(np.full(n, len(log) - 1))
    actions = {name: np.zeros(n, bool) for name in log.actions}
    actions[log.positive_actions[0]] = slot < takes
    changed: dict[str, Any] = {
        "user": users[row].astype(np.int32), "item": slates[row, slot].astype(np.int32),
        "time": np.full(n, now, np.int64), "actions": actions, "_cache": {},
    }
    if log.dwell is not None:
        changed["dwell"] = np.full(n, np.nan, np.float32)
    if log.position is not None:
        changed["position"] = slot.astype(np.int16)
    if log.propensity is not None:
        changed["propensity"] = np.full(n, np.nan, np.float32)
    for name in ("request", "session"):
        column = getattr(log, name)
        if column is not None:
            changed[name] = int(column.max()) + 1 + row
    return replace(like, **changed)
