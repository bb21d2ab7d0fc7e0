"""Caps and distances within a slate, by any category of the items, kept together in one walk down the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.labels import check_attribute, labels_of, shares_of
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import chosen_first
from recsys_cli.pipeline.stage import Selector, StageConfig
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

RESERVE = 10
"""Further items put in order behind the slate."""


class ConstraintsConfig(StageConfig):
    """Caps and distances within a slate by author, topics, source and any category of the items, as media_type and
    language."""

    kind: Literal["constraints"] = "constraints"
    max_count: dict[str, PositiveInt] = {}
    """Attribute → items of a slate that may carry the same label, or twice its share of the catalogue where that is
    more."""
    max_share: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Attribute → share of a slate that may carry the same label (at least one item), or twice its share of the
    catalogue where that is more."""
    apart: dict[str, Annotated[int, Field(ge=2, le=1000)]] = {}
    """Attribute → of so many items that follow each other no two carry the same label."""
    adapt: bool = True
    """Whether what makes up much of the catalogue may take up to twice its share of a slate; off: caps hold as
    written."""


class Constraints(Selector):
    """Each slot goes to the first candidate that breaks no cap and no distance; where all break one, to the first
    within the caps, and where none is, to the first: a slate is full even where they cannot hold."""

    config_type = ConstraintsConfig
    config: ConstraintsConfig
    reads = ("utility",)

    def __init__(self, config: ConstraintsConfig):
        super().__init__(config)
        self._named = tuple(dict.fromkeys((*config.max_count, *config.max_share, *config.apart)))
        self._shares = PerState(lambda state: {a: shares_of(a, state.catalogue) for a in self._named})

    def prepare(self, bundle: Bundle) -> str | None:
        place = f"pipeline.stages.{self.name}"
        there = tuple(a for a in self._named if check_attribute(a, bundle.catalogue, place))
        absent = [a for a in self._named if a not in there]
        self._named = there
        if absent and there:
            self.notes = (f"stage {self.name} does without {', '.join(absent)}: the items have none",)
        return f"needs items with {' or '.join(absent)}" if absent and not there else None

    def enabled(self, query: Query) -> bool:
        return bool(self._named)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        length, config = query.size + RESERVE, self.config
        columns, shares = {a: labels_of(a, query, candidates) for a in self._named}, self._shares(query.state)
        most = {a: caps(shares[a], query.size, config, a) for a in self._named}
        most = {a: None if limits is None else limits.tolist() for a, limits in most.items()}
        chosen = []
        for row, slots in enumerate(map(np.flatnonzero, candidates.filled)):
            rules = []
            for attribute, labels in columns.items():
                rules.append((*_places(labels[:, row, slots]), most[attribute], config.apart.get(attribute, 1)))
            chosen.append(slots[walk(len(slots), min(length, len(slots)), rules)])
        return chosen_first(candidates, chosen)


def caps(shares: np.ndarray, size: int, config: ConstraintsConfig, attribute: str) -> np.ndarray | None:
    """int64[labels + 1]: items of a slate of `size` that may carry each label; None without a cap."""
    count, share = config.max_count.get(attribute), config.max_share.get(attribute)
    named = [*([count] if count else []), *([max(1, int(share * size + 1e-9))] if share else [])]
    if not named:
        return None
    usual = (2 * shares * size + 1e-9).astype(np.int64) if config.adapt else np.zeros(len(shares), np.int64)
    return np.maximum(min(named), usual)


def _places(labels: np.ndarray) -> tuple[list[list[int]], dict[int, np.ndarray]]:
    """(labels of each candidate, -1 for none, label → the candidates that carry it where several do) of int32[T, n]."""
    which, at = np.nonzero(labels >= 0)
    codes = labels[which, at]
    order = np.argsort(codes, kind="stable")
    codes, at = codes[order], at[order]
    first = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]).tolist() if len(codes) else []
    last = [*first[1:], len(codes)]
    named = zip(codes[first].tolist(), first, last, strict=True) if first else ()
    return labels.T.tolist(), {code: at[a:b] for code, a, b in named if b - a > 1}


def walk(n: int, length: int, rules: list[Any]) -> np.ndarray:
    """int64[length] places of n candidates in the order that the rules leave.

    rules: (labels of each candidate, label → candidates where several carry it, caps by label or None, least distance)
    of each attribute.
    """
    free, within = np.ones(n, bool), np.ones(n, bool)
    barred = np.zeros(n, np.int16)
    """how many reasons there are for which a candidate cannot come next: caps, distances, that it stands already"""
    rules = [(*rule, {}) for rule in rules]
    out = np.empty(length, np.int64)
    leaving: dict[int, list[np.ndarray]] = {}
    for slot in range(length):
        for members in leaving.pop(slot, ()):
            barred[members] -= 1
        at = int(barred.argmin())
        if barred[at]:
            at = int(within.argmax()) if within.any() else int(free.argmax())
        out[slot] = at
        free[at] = within[at] = False
        barred[at] += 1
        for labels, groups, most, apart, used in rules:
            for code in labels[at]:
                members = groups.get(code)
                if members is None:  # nobody else carries it
                    continue
                used[code] = count = used.get(code, 0) + 1
                if most is not None and count == most[code]:
                    within[members] = False
                    barred[members] += 1
                if apart > 1 and count < len(members):
                    barred[members] += 1
                    leaving.setdefault(slot + apart, []).append(members)
    return out
