"""Features that a candidate has only among the others of its request: where each source has it, and how far above them.

Retrievers measure on scales of their own; what ranks across them is the standardised score within the request and the
place in each list.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

from recsys_cli.features.rows import as_slice
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query

STANDARD, RANK = "z_", "rank_"
WEIGHTED_SCORE = "z_weighted"
TOGETHER = ("z_mean", "z_max", WEIGHTED_SCORE, "best_rank", "sources_proposing", "fused_rank")
"""Features over several sources: mean and greatest standardised score of those that measure (of all where none does),
the sum weighted as was learned, ln(1 + best place), how many sources proposed it, and the sum of reciprocal ranks."""
AT_ONCE = 2**16
"""Numbers that are standardised at once: they stay near the processor."""
NOWHERE = 2000.0
"""Place that stands for "not in this source's list"."""


def request_feature_names(sources: Iterable[str]) -> tuple[str, ...]:
    """Names of the features for sources that are asked or that measure, in a fixed order."""
    names = tuple(sources)
    return (*(STANDARD + n for n in names), *(RANK + n for n in names), *TOGETHER)


def is_request_feature(name: str) -> bool:
    """Whether a feature compares candidates of one request, so that no snapshot holds it."""
    return name in TOGETHER or name.startswith((STANDARD, RANK))


def standardised(query: Query, candidates: Candidates, sources: Iterable[str]) -> dict[str, np.ndarray]:
    """"z_<source>" float32[B, K] for each source: its score less the mean over the user's candidates, in standard
    deviations.

    Where a source has no score of its own ("sim_<source>") the logarithm of the place in its list stands for it, and
    what it did not propose comes behind. Where a source says nothing, or says the same of all, everything is 0; so it
    is for people without a history wherever a source has learned from histories.
    """
    sources = tuple(sources)
    if not sources:
        return {}
    filled = candidates.filled
    z = np.empty((len(sources), *filled.shape), np.float32)
    for name, out in zip(sources, z, strict=True):
        given = candidates.scores.get(f"sim_{name}")
        out[:] = _by_place(candidates.scores.get(RANK + name), filled.shape) if given is None else given
    step = max(1, AT_ONCE // max(z[:, :1].size, 1))
    for start in range(0, len(filled), step):
        part = slice(start, start + step)
        z[:, part] = _standard(z[:, part], filled[part])
    users = np.maximum(query.users, 0)
    new = (query.users < 0) | (query.state.history.offsets[users + 1] == query.state.history.offsets[users])
    if new.any():
        for name, out in zip(sources, z, strict=True):
            source = query.bundle.retrievers.get(name)
            if source is None or source.learns:
                out[new] = 0
    return {STANDARD + name: out for name, out in zip(sources, z, strict=True)}


def _standard(score: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """float64[S, B, K] scores float32[S, B, K] of each source in standard deviations from their mean over the filled
    slots bool[B, K]; 0 where they hardly differ."""
    count, whole = np.maximum(filled.sum(axis=1), 1)[:, None], filled.all()
    if not whole:
        score = np.where(filled, score, np.float32(0))
    mean = score.sum(axis=2, keepdims=True, dtype=np.float64) / count
    off = score - mean
    if not whole:
        off *= filled
    spread = np.sqrt(np.einsum("sbk,sbk->sb", off, off)[..., None] / count)
    tells = spread > 1e-6 * (np.abs(mean) + 1e-12)
    off *= np.where(tells, 1 / np.maximum(spread, 1e-30), 0)
    return off


def _by_place(rank: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    if rank is None:
        return np.zeros(shape, np.float32)
    last = rank.max(axis=1, keepdims=True, initial=0)
    return -_ln(np.where(rank > 0, rank, last + 1))


def request_features(candidates: Candidates, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named features, float32[B, K] each; a source that was not asked is absent from every list."""
    names, scores, shape = tuple(names), candidates.scores, candidates.items.shape
    blank = np.zeros(shape, np.float32)
    ranked, places, out = [name for name in names if name.startswith(RANK)], {}, {}
    if ranked:  # one logarithm of all places at once; they are whole numbers, of which ln(1 + x) needs no more care
        ranks = np.stack([scores.get(name, blank) for name in ranked])
        places = dict(zip(ranked, _ln(np.where(ranks > 0, ranks, np.float32(NOWHERE))), strict=True))
    for name in names:
        if name in TOGETHER:
            out[name] = _together(candidates, name)
        elif name.startswith(STANDARD):
            out[name] = scores.get(name, blank)
        else:
            out[name] = places[name]
    return out


def _ln(places: np.ndarray) -> np.ndarray:
    """ln(1 + place), float32, of whole numbers in place of them."""
    places += 1
    return np.log(places, out=places)


def _together(candidates: Candidates, name: str) -> np.ndarray:
    scores, shape = candidates.scores, candidates.items.shape
    if name == "fused_rank":
        return scores.get("rrf", np.zeros(shape, np.float32))
    if name == WEIGHTED_SCORE or (name == "z_mean" and name in scores):
        return scores.get(name, np.zeros(shape, np.float32))
    if name == "sources_proposing":
        return np.bitwise_count(candidates.sources).astype(np.float32)
    if name == "best_rank":
        best = np.full(shape, NOWHERE, np.float32)
        for key, rank in scores.items():
            if key.startswith(RANK):
                np.minimum(best, np.where(rank > 0, rank, np.float32(NOWHERE)), out=best)
        return _ln(best)
    every = {key: value for key, value in scores.items() if key.startswith(STANDARD) and key not in TOGETHER}
    # what measures a user and an item says more of them than a place in a list that is everybody's
    own = [value for key, value in every.items() if f"sim_{key.removeprefix(STANDARD)}" in scores]
    standard = own or list(every.values())
    if not standard:
        return np.zeros(shape, np.float32)
    total = standard[0].copy()
    for value in standard[1:]:
        total = total + value if name == "z_mean" else np.maximum(total, value)
    return total / np.float32(len(standard)) if name == "z_mean" else total


def of_request(candidates: Candidates, names: tuple[str, ...]) -> np.ndarray:
    """float32[len(names), B, K]: features of the request, one after the other."""
    if not names:
        return np.zeros((0, *candidates.items.shape), np.float32)
    return np.stack(list(request_features(candidates, names).values()))


def parted(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of the names that are features of the request, and those of the snapshot."""
    return _kinds(names)[:2]


def candidate_features(
    query: Query, candidates: Candidates, names: tuple[str, ...], similarities: dict[str, np.ndarray],
    rows: slice = slice(None),
) -> np.ndarray:
    """float32[B, K, len(names)]: the named features of candidates, those of the request and those of the snapshot.

    similarities: source → float32[B, K] for the features "sim_<source>". rows: of the users of the query.
    """
    part = candidates if rows == slice(None) else candidates.rows(rows)
    out = np.empty((*part.items.shape, len(names)), np.float32)
    of_request, others, at = _kinds(names)
    for name, value in request_features(part, of_request).items():
        out[..., names.index(name)] = value
    if others:
        sims = {name: s[rows] for name, s in similarities.items()}
        out[..., at] = query.snapshot.features(query.users[rows], part.items, query.context.rows(rows), sims, others)
    return out


@cache
def _kinds(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], slice | list[int]]:
    """(features of the request among names, those of the snapshot, the places of these)."""
    others = tuple(name for name in names if not is_request_feature(name))
    return tuple(n for n in names if n not in others), others, as_slice([names.index(n) for n in others])
