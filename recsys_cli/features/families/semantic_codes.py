"""What a user did with items that say alike: those that share the first codes of the impression's semantic id."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.features import formulas
from recsys_cli.features.dataset_columns import bag, unit
from recsys_cli.features.family import (
    Arrays,
    AsOf,
    DatasetFacts,
    FeatureFamily,
    FrozenFeatures,
    Past,
    Served,
    SnapshotInputs,
    Values,
)
from recsys_cli.features.history import History
from recsys_cli.features.pair_counters import PairCounters
from recsys_cli.features.request import Request
from recsys_cli.features.spec import Definitions, Feature, Features

DIMS = 32
"""Singular vectors of a column of texts."""
LEARNED_FROM = 20_000
"""Items, drawn at random, that the centres are learned from; the others get the codes of the nearest."""

_SEED = 20_031
"""Of that draw and of the centres: the same for every dataset."""


class SemanticCodes(FeatureFamily):
    """Share and rate of the user's interactions among items with the same first one, two, … codes.

    Codes come by residual k-means (Rajput et al., "Recommender systems with generative retrieval", NeurIPS 2023) from
    every column of items that becomes a text, as singular vectors of TF-IDF, or a vector. They follow from the items
    alone and are learned anew with every snapshot whose items changed, so that a code by itself means nothing that
    lasts; what is counted over it does.
    """

    name = "semantic_codes"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        levels = facts.config.semantic.code_levels
        told = [c for c in facts.columns if c.side == "item" and c.becomes in ("text", "vector")]
        for c in told if levels else ():
            for level in range(1, levels + 1):
                first = "the same first code" if level == 1 else f"the same first {level} codes"
                of = f"items whose {c.name} has {first}"
                yield Feature(
                    f"{c.name}_code_{level}_share", "pair", "pair", "share",
                    f"share of the user's interactions that were with {of}",
                    "interactions of the user with such items ÷ interactions of the user", c.path, level, unit="share",
                )
                yield Feature(
                    f"{c.name}_code_{level}_rate", "pair", "pair", "rate",
                    f"how often the user interacts with {of}",
                    "log-odds of (interactions + s·p) / (impressions + s) among such items, p the user's own rate, "
                    "s features.smoothing.user_topic", c.path, level, unit="log-odds",
                )

    def compute(self, features: Features, rows: AsOf) -> Values:
        past, positive = rows.past, rows.column("positive")
        of_user = rows.view("user")
        prior = rows.everything("positive")
        for (path, level), mine in _by_code(features).items():
            group = _groups(past, path, level)
            keys = _keys(rows.user, group.take(rows.item, mode="wrap"), _width(group))
            view = _history(past, path, level, group).view(keys, rows.time)
            yield from self._values(
                mine, past.spec.config.smoothing, view.sum(positive), view.shown(), of_user.sum(positive),
                of_user.shown(), prior,
            )

    @staticmethod
    def _values(
        features: Features, smoothing: Any, count: np.ndarray, shown: np.ndarray, all_count: np.ndarray,
        all_shown: np.ndarray, everything: np.ndarray | np.float32,
    ) -> Values:
        """count, shown: interactions and impressions of the user with items of the code; all_…: with every item."""
        for f in features:
            if f.measure == "share":
                yield f.name, count / np.maximum(all_count, 1)
            else:
                own = formulas.log_odds(all_count, all_shown, everything, smoothing.user)
                yield f.name, formulas.log_odds(count, shown, own, smoothing.user_topic)

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        past, positive = inputs.past, inputs.past.column("positive")
        out: Arrays = {"user": np.stack([inputs.users.sum(positive), inputs.users.shown()], axis=1).astype(np.float32)}
        for path, level in _by_code(features):
            group = _groups(past, path, level)
            history = _history(past, path, level, group)
            keys = history.distinct()
            view = history.view(keys, np.int64(inputs.now))
            counted = np.stack([view.sum(positive), view.shown()], axis=1).astype(np.float32)
            out |= {f"{path}/{level}/group": group, f"{path}/{level}/keys": keys, f"{path}/{level}/counts": counted}
        return out

    def prepare(self, features: Features, frozen: FrozenFeatures) -> dict[Any, Any]:
        """(column, level) → the groups of its items and the counters by user and group; "user" → those by user."""
        arrays = frozen.arrays.get(self.name, {})
        out: dict[Any, Any] = {}
        for path, level in _by_code(features):
            group, keys, counts = (arrays[f"{path}/{level}/{part}"] for part in ("group", "keys", "counts"))
            out[path, level] = group, PairCounters.build(keys, {"positive": counts[:, 0], "shown": counts[:, 1]})
        return out | {"user": arrays["user"]} if out else out

    def serve(self, features: Features, request: Request, held: dict[Any, Any]) -> Served:
        frozen = request.frozen
        for code, mine in _by_code(features).items():
            group, counters = held[code]
            found = counters.of_codes(request.users, _width(group), group.take(request.items, mode="wrap"))
            of_user = held["user"].take(request.users, axis=0, mode="wrap")[:, None]
            yield from self._values(
                mine, frozen.spec.config.smoothing, found.count("positive"), found.count("shown"), of_user[..., 0],
                of_user[..., 1], np.float32(frozen.everything["positive"]),
            )

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        side, _, name = feature.argument.partition(".")
        return [(side, name)]


def _by_code(features: Features) -> dict[tuple[str, int], list[Feature]]:
    """(column, level) → its features"""
    out: dict[tuple[str, int], list[Feature]] = {}
    for f in features:
        out.setdefault((f.argument, f.span), []).append(f)
    return out


def _width(group: np.ndarray) -> int:
    return int(group.max(initial=0)) + 1


def _keys(users: np.ndarray, groups: np.ndarray, width: int) -> np.ndarray:
    """int64[n], -1 where the user is unknown or the item has no code."""
    return np.where((users >= 0) & (groups >= 0), users.astype(np.int64) * width + groups, np.int64(-1))


def _history(past: Past, path: str, level: int, group: np.ndarray) -> History:
    log = past.log

    def make() -> History:
        return History(_keys(log.user, group.take(log.item, mode="wrap"), _width(group)), past.clock)

    return past.once(f"semantic history {path} {level}", make)


def _groups(past: Past, path: str, level: int) -> np.ndarray:
    """int32[n_items + 1]: items that share their first `level` codes have one number, -1 is without a code; the last
    is the unknown item."""
    config = past.spec.config.semantic

    def make() -> np.ndarray:
        codes = semantic_codes(past.catalogue, path, config.code_levels, config.codes_per_level)[:, :level]
        out = np.full(len(codes) + 1, -1, np.int32)
        known = np.flatnonzero(codes[:, 0] >= 0)
        out[known] = np.unique(codes[known], axis=0, return_inverse=True)[1].reshape(-1)
        return out

    return past.once(f"semantic groups {path} {level}", make)


_KEPT: dict[str, tuple[Any, ...]] = {}
"""Column → its latest codes with what they are of: every table and snapshot of one dataset asks for the same."""


def semantic_codes(catalogue: Catalogue, path: str, levels: int, width: int) -> np.ndarray:
    """int16[n_items, levels] codes of a column of items ("item.text"), below `width` each, the coarsest first; -1
    where an item has no vector."""
    kept = _KEPT.get(path)
    if kept is None or kept[0]() is not catalogue or kept[1] != (levels, width):
        _KEPT[path] = kept = weakref.ref(catalogue), (levels, width), _learned(catalogue, path, levels, width)
    return kept[2]


def _learned(catalogue: Catalogue, path: str, levels: int, width: int) -> np.ndarray:
    from recsys_cli.semantic_ids import SemanticIds

    name = path.partition(".")[2]
    brought = catalogue.item_columns.vectors.get(name)
    vectors = _text_vectors(catalogue, name) if brought is None else np.nan_to_num(brought).astype(np.float32)
    has = np.abs(vectors).sum(axis=1) > 1e-6
    if brought is not None:
        has &= ~np.isnan(brought).any(axis=1)
    known = np.flatnonzero(has)
    out = np.full((len(vectors), levels), -1, np.int16)
    if len(known):
        vectors = unit(vectors[known] - vectors[known].mean(axis=0))
        few = vectors
        if len(known) > LEARNED_FROM:
            few = vectors[np.sort(np.random.default_rng(_SEED).choice(len(known), LEARNED_FROM, replace=False))]
        ids = SemanticIds.learn(few, np.ones(len(few), bool), levels, width, _SEED)
        out[known] = ids.encode(vectors)
    return out


def _text_vectors(catalogue: Catalogue, name: str) -> np.ndarray:
    """float32[n_items, D]: singular vectors of TF-IDF (latent semantic analysis: Deerwester et al., JASIS 1990) of
    the words that at least two items have."""
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import svds

    words = bag(catalogue, "item", name)
    buckets = words.values % np.int32(TEXT_BUCKETS)
    items = np.bincount(buckets, minlength=TEXT_BUCKETS)
    shared = np.flatnonzero(items >= 2)
    weight = np.zeros(TEXT_BUCKETS, np.float32)
    weight[shared] = np.log(1 + len(words) / items[shared])
    bags = csr_array((weight[buckets], buckets, words.offsets), (len(words), TEXT_BUCKETS))[:, shared]
    length = np.sqrt(bags.multiply(bags).sum(axis=1))
    bags = diags_array(1 / np.where(length > 0, length, 1)) @ bags
    if min(bags.shape) <= DIMS:
        return bags.toarray().astype(np.float32)
    return (bags @ svds(bags, DIMS, v0=np.ones(min(bags.shape)))[2].T).astype(np.float32)
