"""Features as of now, for serving: everything counted beforehand, gathered per request.

The values come from the same definitions, counters and formulas as the training table. What depends on a
user or an item alone is kept as a matrix; pairs are found by key and put through the formulas per request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features.as_of import Past
from recsys_cli.features.context import Context
from recsys_cli.features.evaluate import by_family, fill
from recsys_cli.features.family import CountedFamily, SnapshotInputs
from recsys_cli.features.keys import ItemKeys, counting_key
from recsys_cli.features.pair_counters import PairCounters
from recsys_cli.features.parts import FeatureParts, PartsPlan
from recsys_cli.features.plan import Plan
from recsys_cli.features.registry import family_of
from recsys_cli.features.request import FrozenFeatures
from recsys_cli.features.rows import Rows
from recsys_cli.features.spec import Feature, FeatureSpec

_KEYS = ("author", "format", "topics")
_SIZES = ("n_users", "n_authors", "n_topics", "n_formats", "n_surfaces")
_PAIRS = ("keys", "counts", "moments")


class ServedFeatures(Protocol):
    """What gives requests their features: a snapshot, or one seen through further users."""

    def features(
        self, users: np.ndarray, items: np.ndarray, context: Context,
        similarities: dict[str, np.ndarray] | None = None, columns: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """As `Snapshot.features`."""

    def parts(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray],
        columns: tuple[str, ...],
    ) -> FeatureParts:
        """As `Snapshot.parts`."""


def unknown_beyond(positions: np.ndarray, n: int) -> np.ndarray:
    """int32 positions of users or items, -1 for those from `n` on, of whom a snapshot counted nothing."""
    return np.where(np.asarray(positions) < n, positions, -1).astype(np.int32)


@dataclass(frozen=True)
class Snapshot(FrozenFeatures):
    """Features of any user and item as of one moment."""

    @classmethod
    def build(
        cls, spec: FeatureSpec, catalogue: Catalogue, log: Log, now: int,
        follows: dict[str, np.ndarray] | None = None, blocks: dict[str, np.ndarray] | None = None,
    ) -> Snapshot:
        """From the rows of `log` strictly before `now` (µs) and the edges that `Dataset.edges` gives."""
        past = Past(spec, catalogue, log.window(end=now), follows, blocks)

        def compute(features: list[Feature], n: int, **who: np.ndarray) -> np.ndarray:
            out = np.zeros((n, len(features)), np.float32)
            fill(past, Rows.at(now, n, None, **who), features, out)
            return out

        inputs = SnapshotInputs(past, now, compute)
        every = past.everything(np.array([now], np.int64))
        return cls(
            spec=spec,
            now=int(now),
            keys=past.keys,
            user_block=inputs.values([f for f in spec.features if f.place == "user"], "user", catalogue.n_users),
            item_block=inputs.values([f for f in spec.features if f.place == "item"], "item", catalogue.n_items),
            everything={name: float(values[0]) for name, values in every.items()},
            usual=_usual(spec, past.log),
            pairs={key: _pairs(inputs, key) for key in spec.keys if _of_pairs(key)},
            arrays={family.name: family.freeze(mine, inputs) for family, mine in by_family(spec.features)},
        )

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """For `arrays.save_arrays`."""
        arrays = {"user_block": self.user_block, "item_block": self.item_block}
        arrays |= {f"keys/{name}": getattr(self.keys, name) for name in _KEYS}
        for side in ("values", "user_values"):
            arrays |= {f"keys/{side}/{name}": codes for name, codes in getattr(self.keys, side).items()}
        for key, store in self.pairs.items():
            arrays |= {f"pairs/{key}/{name}": getattr(store, name) for name in _PAIRS}
        for family, kept in self.arrays.items():
            arrays |= {f"families/{family}/{name}": values for name, values in kept.items()}
        meta = {
            "spec": self.spec.to_json(), "now": self.now, "everything": self.everything,
            "sizes": {k: int(getattr(self.keys, k)) for k in _SIZES} | {"sizes": self.keys.sizes},
            "pairs": {key: [store.count_names, store.moment_names] for key, store in self.pairs.items()},
            "usual": {name: None if np.isnan(v) else v for name, v in self.usual.items()},
            "families": list(self.arrays),
        }
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Snapshot:
        """What `to_arrays` gave; raises ArtifactError where a family of the run is not installed."""
        for family in meta["families"]:
            family_of(family)

        def under(start: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}

        return cls(
            spec=FeatureSpec.from_json(meta["spec"]),
            now=meta["now"],
            keys=ItemKeys(
                arrays["keys/author"], arrays["keys/format"], arrays["keys/topics"],
                values=under("keys/values/"), user_values=under("keys/user_values/"), **meta["sizes"],
            ),
            user_block=arrays["user_block"],
            item_block=arrays["item_block"],
            everything=meta["everything"],
            usual={name: float("nan") if v is None else v for name, v in meta["usual"].items()},
            pairs={
                key: PairCounters(
                    arrays[f"pairs/{key}/keys"], arrays[f"pairs/{key}/counts"], arrays[f"pairs/{key}/moments"],
                    tuple(counts), tuple(moments),
                )
                for key, (counts, moments) in meta["pairs"].items()
            },
            arrays={family: under(f"families/{family}/") for family in meta["families"]},
        )

    def features(
        self, users: np.ndarray, items: np.ndarray, context: Context,
        similarities: dict[str, np.ndarray] | None = None, columns: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """float32[B, K, F]: the features of `columns` (None: all of the spec, in its order).

        users: int32[B], -1 unknown. items: int32[B, K], -1 gives a row of zeros. similarities: retriever →
        float32[B, K], 0 where missing. Ages and recencies are as of `context.now`, counts as of the snapshot.
        """
        columns = None if columns is None else tuple(columns)
        plan = self._cache.get(columns)
        if plan is None:
            plan = self._cache[columns] = Plan(self, columns)
        return plan(np.asarray(users), np.asarray(items), context, similarities or {})

    def parts(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray],
        columns: tuple[str, ...],
    ) -> FeatureParts:
        """The features of `columns` in the parts in which they vary; arguments as of `features`."""
        plan = self._parts.get(columns)
        if plan is None:
            plan = self._parts[columns] = PartsPlan(self, columns)
        return plan(np.asarray(users), np.asarray(items), context, similarities)


def _of_pairs(key: str) -> bool:
    """Whether a key is found per request; others are frozen as values of users, items or surfaces."""
    return counting_key(key).place in ("pair", "context") and key != "surface"


def _pairs(inputs: SnapshotInputs, key: str) -> PairCounters:
    past = inputs.past
    history = past.history(key)
    keys = history.distinct()
    view = history.view(keys, np.int64(inputs.now))
    counted: dict[str, np.ndarray] = {}
    for family, mine in by_family([f for f in past.spec.features if f.key == key]):
        assert isinstance(family, CountedFamily)  # no other defines features with a key
        counted |= family.counters(mine, view, inputs, keys // past.keys.width(key))
    return PairCounters.build(keys, counted)


def _usual(spec: FeatureSpec, log: Log) -> dict[str, float]:
    """Surface, device and further columns of impressions → commonest code or mean; NaN or -1 where none is known."""
    out = {"surface": _commonest(log.surface), "device": _commonest(log.device)}
    for f in spec.of_family("request"):
        _, dot, name = f.argument.partition(".")
        if not dot or f.measure == "missing":
            continue
        values = log.context.get(name)
        found = np.zeros(0) if values is None else values[np.isfinite(values)]
        if f.measure == "category":
            out[name] = _commonest(values)
        elif not len(found):
            out[name] = float("nan")
        elif f.codes:
            kinds, counts = np.unique(found, return_counts=True)
            out[name] = float(kinds[counts.argmax()])
        else:
            out[name] = float(found.mean(dtype=np.float64))
    return out


def _commonest(codes: np.ndarray | None) -> float:
    counts = np.bincount(codes[codes >= 0]) if codes is not None else np.zeros(0)
    return float(counts.argmax()) if len(counts) else -1.0
