"""Figures for new items, for repeats and for both, where lists may hold what a user had before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.figures import interval
from recsys_cli.evaluation.intervals import bootstrap_means

if TYPE_CHECKING:
    from recsys_cli.evaluation.lists import System
    from recsys_cli.evaluation.truth import Truth

MEASURED = ("ndcg", "recall", "hit_rate")
KINDS = ("new items", "repeats", "both")


def by_repetition(
    truth: Truth, systems: Sequence[System], k: int, *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """One row for each of KINDS: what the first k of the very lists that are served find of it.

    A row has "of", "users" with anything of it to find, "relevant" items, and "systems": name → metric → value with its
    interval, {} where there is nothing to find. Empty where lists leave out what was had before.
    """
    if truth.repeated is None:
        return []
    out = []
    for kind in KINDS:
        chosen = {"new items": ~truth.repeated, "repeats": truth.repeated}.get(kind, np.ones_like(truth.repeated))
        part = truth.only(chosen)
        at = np.searchsorted(truth.users, part.users)
        columns = {
            (system.name, f"{metric}@{k}"): rm.ACCURACY[metric](
                rm.hits(system.lists[k][at, :k], part.relevant), part.relevant.lengths, k)
            for system in systems for metric in MEASURED
        }  # fmt: skip
        figures: dict[str, dict] = {system.name: {} for system in systems}
        if len(part.users):
            means = bootstrap_means(np.stack(list(columns.values()), axis=1), resamples=resamples, seed=seed, unit=True)
            for (name, metric), *found in zip(columns, *means, strict=True):
                figures[name][metric] = interval(*found)
        out.append({"of": kind, "users": len(part.users), "relevant": int(chosen.sum()), "systems": figures})
    return out
