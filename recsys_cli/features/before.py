"""What people did before the log begins, of which the order is known and no time.

Every row of the log comes later, so these counters are the same for every impression: one table of counts a
family, read by the training table and by the serving snapshot through the same function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features import formulas
from recsys_cli.features.families import ItemKeys, family
from recsys_cli.features.spec import Feature, FeatureSpec
from recsys_cli.features.store import find

SOURCE = "before_"
_FAMILIES = ("user", "author", "item", "topic", "user_author", "user_topic", "user_format", "user_item")
_WITHOUT_RATES = ("user_author", "user_item")
"""Too few rows a key for a share to tell more than the counts."""


def define_before(catalogue: Catalogue, base: str, families: Sequence[str]) -> Iterator[Feature]:
    """The features that `Catalogue.before` allows: counts of each action, and shares of the rows of `base`."""
    actions = [a for a, rows in catalogue.before.items() if len(rows.values)]
    for source in [s for s in families if s in _FAMILIES]:
        f = family(source)
        for action in actions:
            yield Feature(
                f"{source}_before_{action}", f.group, f.place, SOURCE + source, "count",
                f"{action} of {f.of} before the log begins", f"ln(1 + rows of {action})", action,
            )
        if base not in actions or source in _WITHOUT_RATES:
            continue
        prior = " + ".join(_parents(source, families)) or "everything"
        for action in [a for a in actions if a != base]:
            yield Feature(
                f"{source}_before_{action}_logodds", f.group, f.place, SOURCE + source, "rate",
                f"share of {action} among what was {base} of {f.of} before the log begins",
                f"log-odds of (count + s·prior) / ({base} + s), s as for {source}, prior from {prior}", action,
            )


def _parents(source: str, families: Sequence[str]) -> tuple[str, ...]:
    """The families whose shares add up to the prior of a cross; shares of the others tend to that of everything."""
    parents = {"user_topic": ("user", "topic"), "user_format": ("user",)}.get(source, ())
    return tuple(p for p in parents if p in families)


@dataclass(frozen=True)
class Before:
    """Counts of the time before the log.

    A row of `counts` holds, of one key, the rows of each action and, named "base∧action", the rows of the base
    action whose user did the other action to the same item too.
    """

    names: tuple[str, ...]
    base: str
    strengths: dict[str, float]
    """family → rows of the base action that the prior of its shares is worth"""
    total: np.ndarray
    """float32[C] over everything"""
    keys: dict[str, np.ndarray]
    """family → int64[m] ascending"""
    counts: dict[str, np.ndarray]
    """family → float32[m + 1, C], the last row is of zeros"""

    @classmethod
    def build(cls, spec: FeatureSpec, catalogue: Catalogue, keys: ItemKeys) -> Before | None:
        """Counts of the families in use; None where no feature reads them."""
        sources = tuple(dict.fromkeys(f.source.removeprefix(SOURCE) for f in spec.features if is_before(f)))
        if not sources:
            return None
        base = spec.config.before_base
        events = _events(catalogue, base)
        held, counts = {}, {}
        for source in sources:
            found = [keys.key(source, user, item, None) for user, item in events.values()]
            width = [k.shape[1] if k.ndim == 2 else 1 for k in found]
            flat = np.concatenate([k.ravel() for k in found])
            column = np.repeat(np.arange(len(found)), [len(k) * w for k, w in zip(found, width, strict=True)])
            column, flat = column[flat >= 0], flat[flat >= 0]
            held[source], at = np.unique(flat, return_inverse=True)
            table = np.bincount(at * len(found) + column, minlength=len(held[source]) * len(found))
            table = table.reshape(-1, len(found)).astype(np.float32)
            counts[source] = np.concatenate([table, np.zeros((1, len(found)), np.float32)])
        return cls(
            names=tuple(events),
            base=base,
            strengths={s: spec.strength(s) for s in sources if s not in _WITHOUT_RATES},
            total=np.array([len(user) for user, _ in events.values()], np.float32),
            keys=held,
            counts=counts,
        )

    def values(
        self, features: Sequence[Feature], keys: ItemKeys, users: np.ndarray, items: np.ndarray, single: bool = False
    ) -> Iterator[tuple[str, np.ndarray]]:
        """(name, values) of each feature for users and items of shapes that broadcast; -1 is unknown.

        single: all users are the same one, whose keys stand together.
        """
        rows: dict[str, np.ndarray] = {}

        def counted(source: str) -> np.ndarray:
            if source not in rows:
                rows[source] = self._rows(source, keys, users, items, single)
            return rows[source]

        def rate(source: str, action: str) -> np.ndarray:
            base, both = self.names.index(self.base), self.names.index(f"{self.base}∧{action}")
            every = formulas.log_odds(self.total[both], self.total[base], np.float32(0), 2.0)
            parents = _parents(source, tuple(self.keys))
            prior = (1 - len(parents)) * every if parents else every
            for parent in parents:
                prior = prior + rate(parent, action)
            mine = counted(source)
            return formulas.log_odds(mine[..., both], mine[..., base], prior, self.strengths[source])

        for f in features:
            source = f.source.removeprefix(SOURCE)
            if f.measure == "rate":
                yield f.name, rate(source, f.argument)
            else:
                yield f.name, formulas.size(counted(source)[..., self.names.index(f.argument)])

    def _rows(self, source: str, keys: ItemKeys, users: np.ndarray, items: np.ndarray, single: bool) -> np.ndarray:
        """float32[..., C] the counts of each key; those of an item's topics are added up."""
        wanted, bounds = keys.key(source, users, items, None), ()
        if single and source.startswith("user_"):
            width = {
                "user_author": keys.n_authors, "user_topic": keys.n_topics, "user_format": keys.n_formats,
                "user_item": len(keys.author),
            }[source]
            low = int(np.asarray(users).flat[0]) * width
            bounds = (low, low + width)
        at = find(self.keys[source], wanted, *bounds)
        if source not in ("topic", "user_topic"):
            return self.counts[source].take(at, axis=0)
        out = self.counts[source].take(at[..., 0], axis=0)
        for t in range(1, at.shape[-1]):
            out += self.counts[source].take(at[..., t], axis=0)
        return out

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict]:
        """For `arrays.save_arrays`."""
        arrays = {"before/total": self.total}
        for source in self.keys:
            arrays[f"before/{source}/keys"], arrays[f"before/{source}/counts"] = self.keys[source], self.counts[source]
        names = {"names": self.names, "base": self.base, "strengths": self.strengths, "sources": list(self.keys)}
        return arrays, names

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict) -> Before:
        def part(name: str) -> dict[str, np.ndarray]:
            return {s: arrays[f"before/{s}/{name}"] for s in meta["sources"]}

        return cls(
            tuple(meta["names"]), meta["base"], meta["strengths"], arrays["before/total"], part("keys"), part("counts")
        )


def is_before(f: Feature) -> bool:
    return f.source.startswith(SOURCE)


def _events(catalogue: Catalogue, base: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of a counter → users and items of its rows; see `Before`."""
    out = {a: (rows.rows, rows.values) for a, rows in catalogue.before.items() if len(rows.values)}
    if base not in out:
        return out
    user, item = out[base]
    pair = user.astype(np.int64) * catalogue.n_items + item
    for action in [a for a in out if a != base]:
        mine = out[action][0].astype(np.int64) * catalogue.n_items + out[action][1]
        both = np.isin(pair, mine)
        out[f"{base}∧{action}"] = user[both], item[both]
    return out
