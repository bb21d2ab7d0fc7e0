"""Synthetic training tables with a known truth, for the tests of rankers."""

from __future__ import annotations

from functools import cache

import numpy as np

from recsys_cli.data.behaviour import Behaviour
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.features.table import FeatureTable

ITEMS = 50
"""Items of the catalogue."""
SPAN = 10**12
"""µs that tables and the log below them span, eleven and a half days."""


def make_catalogue(users: int = 400, before: dict[str, Ragged] | None = None) -> Catalogue:
    """ITEMS items of 7 authors, 4 formats and up to three of 6 topics."""
    rng = np.random.default_rng(4)
    topics = rng.integers(0, 4, ITEMS)
    return Catalogue(
        n_users=users, n_authors=7, item_author=(np.arange(ITEMS) % 7).astype(np.int32),
        item_created=np.zeros(ITEMS, np.int64),
        item_topics=Ragged(np.append(0, np.cumsum(topics)), rng.integers(0, 6, topics.sum()).astype(np.int32)),
        item_text=Ragged.empty(ITEMS), item_codes={"format": (np.arange(ITEMS) % 4).astype(np.int32)},
        item_numbers={}, item_safety={}, user_created=np.zeros(users, np.int64), user_codes={}, user_numbers={},
        author_user=np.full(7, -1, np.int32), names={"topics": [f"topic {t}" for t in range(6)]}, before=before or {},
    )


def make_log(rows: int = 3000, users: int = 400, seed: int = 0) -> Log:
    """Impressions at random of `make_catalogue`, clicked or liked at random; several share a moment."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, SPAN // 1000, rows)) * 1000
    time[1::5] = time[:-1:5]
    return Log(
        user=rng.integers(0, users, rows).astype(np.int32), item=rng.integers(0, ITEMS, rows).astype(np.int32),
        time=np.sort(time), actions={"click": rng.random(rows) < 0.5, "like": rng.random(rows) < 0.2},
        positive_actions=("click", "like"), negative_actions=(),
    )


@cache
def make_behaviour() -> Behaviour:
    """What the users of `make_log` did."""
    return Behaviour.of_log(make_catalogue(), make_log())


def make_table(n: int = 2000, seed: int = 0, truth_seed: int = 0, features: int = 6) -> FeatureTable:
    """Numbers of different scale, one categorical feature, and actions whose logits are linear in them.

    "click" is common, "like" rarer, "hide" falls where click rises, "never" does not occur. ln(1+dwell) is normal.
    """
    truth = np.random.default_rng(truth_seed)
    weights, effects = truth.normal(0, 1, (features, 3)), truth.normal(0, 1.5, 8)
    rng = np.random.default_rng(seed + 1000)
    z = rng.normal(0, 1, (n, features))
    code = rng.integers(0, 8, n)
    score = z @ weights / np.sqrt(features) * 1.5
    click = score[:, 0] + effects[code]
    labels = {
        "click": rng.random(n) < 1 / (1 + np.exp(-click)),
        "like": rng.random(n) < 1 / (1 + np.exp(-(score[:, 1] - 2))),
        "hide": rng.random(n) < 1 / (1 + np.exp(-(-score[:, 0] - 2))),
        "never": np.zeros(n, bool),
    }
    log_dwell = 1.5 + 0.5 * score[:, 2] + 0.4 * rng.normal(0, 1, n)
    dwell = np.where(rng.random(n) < 0.1, np.nan, np.expm1(np.maximum(log_dwell, 0))).astype(np.float32)
    scales = 10.0 ** (np.arange(features) % 6) / 10
    values = np.column_stack([z * scales + 3, code]).astype(np.float32)
    names = (*(f"number_{j}" for j in range(features)), "kind_of_thing")
    return FeatureTable(
        values, names, {"kind_of_thing": 8}, labels, dwell, rng.integers(0, max(n // 10, 2), n).astype(np.int32),
        rng.integers(0, ITEMS, n).astype(np.int32), np.sort(rng.integers(0, SPAN, n)), behaviour=make_behaviour(),
    )
