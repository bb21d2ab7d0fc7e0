"""What a request is shown by one way, or by a mix of the ways of an interleaved experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from recsys_cli.experiments.interleaving import mix

if TYPE_CHECKING:
    from recsys_cli.serving.structs import Item


@dataclass
class Chosen:
    """One page of an answer."""

    items: np.ndarray
    """int32[m] positions"""
    listed: list[Item]
    chances: list[float]
    """probability of each item at its place; empty where it is unknown"""
    fallback: str | None
    candidates: int
    barred: int
    notes: list[str]
    credits: list[list[float]] = field(default_factory=list)
    """of a mixed page: for each item, what turning to it credits each way"""


def mixed(parts: list[Chosen], n: int, method: str) -> Chosen:
    """A page of `n` items from those of several ways; no item comes twice."""
    width = max(len(part.items) for part in parts)
    lists = np.full((len(parts), 1, width), -1, np.int32)
    for v, part in enumerate(parts):
        lists[v, 0, : len(part.items)] = part.items
    items, credits = mix(method, lists, n, np.random.default_rng())
    shown = items[0][items[0] >= 0]
    held = {int(at): item for part in reversed(parts) for at, item in zip(part.items, part.listed, strict=True)}
    listed = [msgspec.structs.replace(held[int(at)], rank=rank) for rank, at in enumerate(shown, 1)]
    fallback = next((part.fallback for part in parts if part.fallback is not None), None)
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    # nobody knows the probability of a mixed list
    return Chosen(
        shown, listed, [], fallback, max(part.candidates for part in parts), max(part.barred for part in parts), notes,
        credits[0][: len(shown)].tolist(),
    )
