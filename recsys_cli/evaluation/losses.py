"""Where what people turned to is lost on its way through the funnel, and how old it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.intervals import bootstrap_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recsys_cli.data.ragged import Ragged
    from recsys_cli.data.state import State
    from recsys_cli.evaluation.lists import System
    from recsys_cli.evaluation.truth import Truth
    from recsys_cli.slate_batch import SlateBatch

FATES = ("not proposed", "filtered", "cut", "ranked low", "diversified away", "shown")
"""What becomes of a relevant item: no source proposes it; a filter takes it out; the light ranker's cut leaves it out
of what the heavy one orders; it is ordered behind the slate's length; it is within it and exploration, caps or safety
take it out; it is shown."""
AGES = (
    (0.0, "under a day"), (1.0, "1 to 3 days"), (3.0, "3 to 7 days"), (7.0, "7 to 30 days"), (30.0, "30 days and more"),
)  # fmt: skip
"""Youngest age in days → the group of items."""


def fates(relevant: Ragged, batch: SlateBatch) -> np.ndarray:
    """float64[B, FATES] share of each user's relevant items that ends in each way.

    relevant: rows as those of a batch that was made with `keep_sourced`.
    """
    slots = batch.items.shape[1]
    stages = [batch.sourced.items, batch.hydrated.items, batch.ranked.items, batch.ranked.items[:, :slots], batch.items]
    held = [_held(relevant, items) for items in stages]
    shown = held[-1]
    fate = np.full(len(relevant.values), FATES.index("shown"))
    for at, here in reversed(list(enumerate(held))):  # the first stage without it is where it was lost
        fate[~here & ~shown] = at
    counts = np.bincount(relevant.rows * len(FATES) + fate, minlength=len(relevant) * len(FATES))
    return counts.reshape(len(relevant), len(FATES)) / np.maximum(relevant.lengths, 1)[:, None]


def _held(relevant: Ragged, items: np.ndarray) -> np.ndarray:
    """bool beside `relevant.values`: whether the user's row of `items`, int32[B, K], holds it."""
    width = np.int64(max(int(items.max(initial=0)), int(relevant.values.max(initial=0)))) + 2
    rows, slots = np.nonzero(items >= 0)
    return np.isin(relevant.rows * width + relevant.values, rows * width + items[rows, slots])


def lost(shares: np.ndarray, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Mean share of each fate over users with its interval; shares: float64[U, FATES]."""
    figures = bootstrap_means(shares, resamples=resamples, seed=seed, unit=True)
    return [
        {"fate": fate, "value": float(v), "low": float(a), "high": float(b)}
        for fate, v, a, b in zip(FATES, *figures, strict=True)
    ]


def by_age(
    truth: Truth, state: State, systems: Sequence[System], k: int, *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """For items of each age at the cutoff: how many are to be found, and what share of them each system finds.

    Rows have "age", "users", "relevant", "share" of all that is to be found, and "systems": name → "recall" with its
    interval and "exposure", the share of its places that such items have. Empty where no item has a date.
    """
    created = state.catalogue.item_created
    if not (created > 0).any():
        return []
    age = np.where(created > 0, (state.now - created) / DAY, np.nan)
    group = np.where(np.isfinite(age), np.searchsorted([days for days, _ in AGES], age, side="right") - 1, -1)
    out = []
    for at, (_, name) in enumerate(AGES):
        chosen = group[truth.relevant.values] == at
        if not chosen.any():
            continue
        part = truth.only(chosen)
        rows = np.searchsorted(truth.users, part.users)
        found = {}
        for system in systems:
            items = system.lists[k][:, :k]
            hit = rm.hits(items[rows], part.relevant)
            recall = rm.recall(hit, part.relevant.lengths, k)
            value, low, high = bootstrap_means(recall[:, None], resamples=resamples, seed=seed, unit=True)
            filled = items[items >= 0]
            exposure = float((group[filled] == at).mean()) if len(filled) else float("nan")
            found[system.name] = {
                "recall": {"value": float(value[0]), "low": float(low[0]), "high": float(high[0])}, "exposure": exposure
            }
        out.append(
            {"age": name, "users": len(part.users), "relevant": int(chosen.sum()), "share": float(chosen.mean()),
             "systems": found}
        )  # fmt: skip
    return out
