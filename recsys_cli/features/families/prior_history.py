"""What people did before the log begins, of which the order is known and no time.

Every row of the log comes later, so these counters are the same for every impression: one table of counts a key,
read by the training table and by the serving snapshot through the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_cli.arrays import find_sorted
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features import formulas
from recsys_cli.features.family import Arrays, DatasetFacts, ItemKeys, Past, TimelessFamily, Values
from recsys_cli.features.keys import counting_key, possible_keys
from recsys_cli.features.spec import Definitions, Feature, Features, FeatureSpec

PRIOR = "prior_"
_KEYS = ("user", "author", "item", "topic", "user_author", "user_topic", "user_format", "user_item")
_WITHOUT_RATES = ("user_author", "user_item")
"""Too few rows a key for a share to tell more than the counts."""


class PriorHistory(TimelessFamily):
    """Counts of each action in the table `history`, and shares of the rows of `features.before_base`."""

    name = "prior_history"

    def define(self, facts: DatasetFacts) -> Definitions:
        base, actions = facts.config.before_base, _actions(facts.catalogue)
        keys = possible_keys(facts.config.before_families, facts.catalogue, facts.surfaces)
        for key in (k for k in keys if k in _KEYS):
            k, source = counting_key(key), PRIOR + key
            for action in actions:
                yield Feature(
                    f"{key}_before_{action}", k.group, k.place, "count", f"{action} of {k.of} before the log begins",
                    f"ln(1 + rows of {action})", action, key=source,
                )
            if base not in actions or key in _WITHOUT_RATES:
                continue
            prior = " + ".join(_parents(key, keys)) or "everything"
            for action in (a for a in actions if a != base):
                yield Feature(
                    f"{key}_before_{action}_logodds", k.group, k.place, "rate",
                    f"share of {action} among what was {base} of {k.of} before the log begins",
                    f"log-odds of (count + s·prior) / ({base} + s), s as for {key}, prior from {prior}", action,
                    key=source, unit="log-odds",
                )

    def tables(self, features: Features, past: Past) -> Arrays:
        counts = PriorCounts.build(past)
        out = {"total": counts.total}
        for key in counts.keys:
            out |= {f"{key}/keys": counts.keys[key], f"{key}/counts": counts.counts[key]}
        return out

    def held(self, spec: FeatureSpec, arrays: Arrays) -> PriorCounts:
        held, counts = ({key: arrays[f"{key}/{part}"] for key in _keys_of(spec)} for part in ("keys", "counts"))
        return PriorCounts(spec, arrays["total"], held, counts)

    def values(
        self, features: Features, held: PriorCounts, keys: ItemKeys, users: np.ndarray, items: np.ndarray
    ) -> Values:
        return held.values(features, keys, users, items)


def _actions(catalogue: Catalogue) -> list[str]:
    return [a for a, rows in catalogue.before.items() if len(rows.values)]


def _keys_of(spec: FeatureSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f.key.removeprefix(PRIOR) for f in spec.of_family("prior_history")))


def _parents(key: str, keys: Sequence[str]) -> tuple[str, ...]:
    """The keys whose shares add up to the prior of a cross; shares of the others tend to that of everything."""
    parents = {"user_topic": ("user", "topic"), "user_format": ("user",)}.get(key, ())
    return tuple(p for p in parents if p in keys)


@dataclass(frozen=True)
class PriorCounts:
    """Counts of the time before the log.

    A row of `counts` holds, of one key, the rows of each action and then, of each action but the base one, the rows of
    the base action whose user did that action to the same item too.
    """

    spec: FeatureSpec
    total: np.ndarray
    """float32[C] over everything"""
    keys: dict[str, np.ndarray]
    """key → int64[m] ascending"""
    counts: dict[str, np.ndarray]
    """key → float32[m + 1, C], the last row is of zeros"""

    @property
    def base(self) -> str:
        """Action whose rows the other actions are a share of."""
        return self.spec.config.before_base

    @property
    def names(self) -> list[str]:
        """Of the columns of `counts`."""
        actions = dict.fromkeys(f.argument for f in self.spec.of_family("prior_history"))
        return _event_names(list(actions), self.base)

    @classmethod
    def build(cls, past: Past) -> PriorCounts:
        """Counts of the keys in use."""
        events, held, counts = _events(past.catalogue, past.spec.config.before_base), {}, {}
        for key in _keys_of(past.spec):
            found = [past.keys.key(key, user, item, None) for user, item in events]
            width = [k.shape[1] if k.ndim == 2 else 1 for k in found]
            flat = np.concatenate([k.ravel() for k in found])
            column = np.repeat(np.arange(len(found)), [len(k) * w for k, w in zip(found, width, strict=True)])
            column, flat = column[flat >= 0], flat[flat >= 0]
            held[key], at = np.unique(flat, return_inverse=True)
            table = np.bincount(at * len(found) + column, minlength=len(held[key]) * len(found))
            table = table.reshape(-1, len(found)).astype(np.float32)
            counts[key] = np.concatenate([table, np.zeros((1, len(found)), np.float32)])
        return cls(past.spec, np.array([len(user) for user, _ in events], np.float32), held, counts)

    def values(
        self, features: Features, keys: ItemKeys, users: np.ndarray, items: np.ndarray
    ) -> Values:
        """(name, values) of each feature for users and items of shapes that broadcast; -1 is unknown."""
        rows, names = {}, self.names

        def counted(key: str) -> np.ndarray:
            if key not in rows:
                rows[key] = self._rows(key, keys, users, items)
            return rows[key]

        def rate(key: str, action: str) -> np.ndarray:
            base, both = names.index(self.base), names.index(_both(self.base, action))
            every = formulas.log_odds(self.total[both], self.total[base], np.float32(0), 2.0)
            parents = _parents(key, tuple(self.keys))
            prior = (1 - len(parents)) * every if parents else every
            for parent in parents:
                prior = prior + rate(parent, action)
            mine = counted(key)
            return formulas.log_odds(mine[..., both], mine[..., base], prior, self.spec.strength(key))

        for f in features:
            key = f.key.removeprefix(PRIOR)
            if f.measure == "rate":
                yield f.name, rate(key, f.argument)
            else:
                yield f.name, formulas.size(counted(key)[..., names.index(f.argument)])

    def _rows(self, key: str, keys: ItemKeys, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32[..., C] the counts of each key; those of an item's topics are added up."""
        wanted, bounds = keys.key(key, users, items, None), ()
        if users.size == 1 and key.startswith("user_"):  # one user's keys stand together
            width = keys.width(key)
            low = int(users.flat[0]) * width
            bounds = (low, low + width)
        at = find_sorted(self.keys[key], wanted, *bounds)
        if key not in ("topic", "user_topic"):
            return self.counts[key].take(at, axis=0)
        out = self.counts[key].take(at[..., 0], axis=0)
        for t in range(1, at.shape[-1]):
            out += self.counts[key].take(at[..., t], axis=0)
        return out


def _both(base: str, action: str) -> str:
    return f"{base}∧{action}"


def _event_names(actions: list[str], base: str) -> list[str]:
    return actions + [_both(base, a) for a in actions if a != base and base in actions]


def _events(catalogue: Catalogue, base: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Users and items of the rows of each counter, in the order of `PriorCounts.names`."""
    actions = _actions(catalogue)
    out = [(catalogue.before[a].rows, catalogue.before[a].values) for a in actions]
    if base in actions:
        user, item = out[actions.index(base)]
        pairs = [u.astype(np.int64) * catalogue.n_items + i for u, i in out]
        pair = pairs[actions.index(base)]
        for action, mine in zip(actions, pairs, strict=True):
            if action != base:
                both = np.isin(pair, mine)
                out.append((user[both], item[both]))
    return out
