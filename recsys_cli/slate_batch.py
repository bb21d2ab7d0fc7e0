"""What the engine gives: the slates of a batch of users, with what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Failure
from recsys_cli.pipeline.runner import StageRecord
from recsys_cli.pipeline.stage import Scorer, Selector, Stage


@dataclass(frozen=True)
class SlateBatch:
    """Slates of B users."""

    users: np.ndarray
    """int32[B]"""
    items: np.ndarray
    """int32[B, n], -1 where a slate is short"""
    scores: dict[str, np.ndarray]
    """"utility", "light", "p_<action>", "dwell", "sim_<source>", "explored", "promoted", "propensity",
    "slate_propensity", "safety", "safety_factor", "interstitial" → float32[B, n]"""
    sources: np.ndarray
    """uint32[B, n], bit s is `SlateEngine.source_names[s]`"""
    fallback: list[str | None]
    """why trending and popular items had to help, a user: "unknown user", "no history", "too few candidates"""
    funnel: list[StageRecord]
    sourced: Candidates | None = None
    """what the sources proposed, when asked to keep it"""
    ranked: Candidates | None = None
    """the ranking by utility before exploration, caps and safety, kept along with `sourced`"""
    hydrated: Candidates | None = None
    """what goes into ranking, kept along with `sourced`"""
    request: str = ""
    failures: list[Failure] = field(default_factory=list)
    """what these slates were made without: sources, hydrators and side effects that raised"""
    remarks: dict[str, np.ndarray] = field(default_factory=dict)
    """sentence → bool[B], in whose answers it belongs"""
    ranks: dict[str, np.ndarray] = field(default_factory=dict)
    """stage from the first scorer on → int32[B, n] place from 1 of each item of the slate behind it, 0 where it was not
    there; those that change no order are left out. Empty unless asked for"""


def ranks_of(kept: dict[str, Candidates], stages: Sequence[Stage], slate: np.ndarray) -> dict[str, np.ndarray]:
    """Places of the items of slates int32[B, n] behind each of the stages that put candidates into another order."""
    out, before, shown = {}, None, slate >= 0
    for stage in stages:
        candidates = kept.get(stage.name)
        if candidates is None or not isinstance(stage, (Scorer, Selector)):
            continue
        if not {"light", "utility"} & candidates.scores.keys():
            continue
        places = np.zeros(slate.shape, np.int32)
        for column in range(slate.shape[1]):
            held = candidates.items == slate[:, column : column + 1]
            places[:, column] = np.where(held.any(axis=1), held.argmax(axis=1) + 1, 0) if held.shape[1] else 0
        places[~shown] = 0
        if before is None or not np.array_equal(before, places):
            out[stage.name] = before = places
    return out


def concatenated(parts: list[SlateBatch]) -> SlateBatch:
    """The slates of several batches as one."""
    return SlateBatch(
        users=np.concatenate([p.users for p in parts]),
        items=np.concatenate([p.items for p in parts]),
        scores={name: _score(parts, name) for name in dict.fromkeys(n for p in parts for n in p.scores)},
        sources=np.concatenate([p.sources for p in parts]),
        fallback=[f for p in parts for f in p.fallback],
        funnel=_funnel(parts),
        sourced=_pad_together([p.sourced for p in parts]) if parts[0].sourced is not None else None,
        ranked=_pad_together([p.ranked for p in parts]) if parts[0].ranked is not None else None,
        hydrated=_pad_together([p.hydrated for p in parts], scores=True) if parts[0].hydrated is not None else None,
        request=parts[0].request,
        failures=list(dict.fromkeys(f for p in parts for f in p.failures)),
        remarks={
            told: np.concatenate([p.remarks.get(told, np.zeros(len(p.users), bool)) for p in parts])
            for told in dict.fromkeys(t for p in parts for t in p.remarks)
        },
        ranks={
            name: np.concatenate([p.ranks.get(name, np.zeros(p.items.shape, np.int32)) for p in parts])
            for name in dict.fromkeys(n for p in parts for n in p.ranks)
        },
    )


def _pad_together(parts: list[Candidates], *, scores: bool = False) -> Candidates:
    width = max(p.items.shape[1] for p in parts)

    def joined(arrays: list[np.ndarray], filler) -> np.ndarray:
        return np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=filler) for a in arrays])

    names = parts[0].scores if scores else ()
    return Candidates(
        joined([p.items for p in parts], -1),
        joined([p.sources for p in parts], 0),
        {name: joined([p.scores[name] for p in parts], 0) for name in names},
    )


def _score(parts: list[SlateBatch], name: str) -> np.ndarray:
    """A score of all batches; 0 in those that were made without what gives it."""
    return np.concatenate([p.scores.get(name, np.zeros(p.items.shape, np.float32)) for p in parts])


def _funnel(parts: list[SlateBatch]) -> list[StageRecord]:
    """Each stage once: candidates a user, mean over the batches in which it ran, and its milliseconds together."""
    held: dict[str, list[tuple[int, StageRecord]]] = {}
    for part in parts:
        for record in part.funnel:
            held.setdefault(record.name, []).append((len(part.users), record))

    def mean(rows: list[tuple[int, StageRecord]], side: str) -> float:
        return float(np.average([getattr(r, side) for _, r in rows], weights=[users for users, _ in rows]))

    return [
        StageRecord(name, mean(rows, "before"), mean(rows, "after"), sum(r.ms for _, r in rows))
        for name, rows in held.items()
    ]
