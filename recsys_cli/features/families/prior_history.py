"""What people did before the log begins, of which the order is known and no time.

Every row of the log comes later, so these counters are the same for every impression: one table of counts a key,
read by the training table and by the serving snapshot through the same function.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features import formulas
from recsys_cli.features.family import Arrays, DatasetFacts, ItemKeys, Past, TimelessFamily, Values
from recsys_cli.features.keys import counting_key, possible_keys
from recsys_cli.features.pair_counters import FoundCounters, PairCounters
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
        events = _events(past.catalogue, past.spec.config.before_base)
        out: Arrays = {"everything": np.array([len(user) for user, _ in events.values()], np.float32)}
        for key in _keys_of(features):
            found = [past.keys.key(key, user, item, None) for user, item in events.values()]
            column = np.concatenate([np.full(k.size, i) for i, k in enumerate(found)])
            flat = np.concatenate([k.ravel() for k in found])
            column, flat = column[flat >= 0], flat[flat >= 0]
            keys, at = np.unique(flat, return_inverse=True)
            counts = np.bincount(at * len(found) + column, minlength=(len(keys) + 1) * len(found))
            counts = counts.reshape(-1, len(found)).astype(np.float32)
            out |= {f"{key}/keys": keys, f"{key}/counts": counts}
        return out

    def held(self, spec: FeatureSpec, arrays: Arrays) -> _PriorCounts:
        features = spec.of_family(self.name)
        names = _counter_names(list(dict.fromkeys(f.argument for f in features)), spec.config.before_base)
        none = np.zeros((0, 0), np.int64)
        stores = {
            key: PairCounters(arrays[f"{key}/keys"], arrays[f"{key}/counts"], none, tuple(names), ())
            for key in _keys_of(features)
        }
        return _PriorCounts(spec, dict(zip(names, arrays["everything"], strict=True)), stores)

    def values(
        self, features: Features, held: _PriorCounts, keys: ItemKeys, users: np.ndarray, items: np.ndarray
    ) -> Values:
        found = {key: held.stores[key].find(keys, key, users, items) for key in held.read_by(features)}
        for f in features:
            key = f.key.removeprefix(PRIOR)
            count = f.measure == "count"
            yield f.name, formulas.size(found[key].count(f.argument)) if count else held.rate(key, f.argument, found)


@dataclass(frozen=True)
class _PriorCounts:
    """Counters by key: the rows of each action and, of each action but the base one, the rows of the base action whose
    user did that action to the same item too."""

    spec: FeatureSpec
    everything: dict[str, np.float32]
    """of all rows together"""
    stores: dict[str, PairCounters]

    def read_by(self, features: Features) -> set[str]:
        """Keys whose counters features read, their own and those of their priors."""
        keys = {f.key.removeprefix(PRIOR) for f in features}
        return keys.union(*(_parents(key, self.stores) for key in keys))

    def rate(self, key: str, action: str, found: dict[str, FoundCounters]) -> np.ndarray:
        """Log-odds of an action among the rows of the base action."""
        base, both = self.spec.config.before_base, _both(self.spec.config.before_base, action)
        prior = formulas.log_odds(self.everything[both], self.everything[base], np.float32(0), 2.0)
        parents = _parents(key, self.stores)
        prior = (1 - len(parents)) * prior if parents else prior
        for parent in parents:
            prior = prior + self.rate(parent, action, found)
        return formulas.log_odds(found[key].count(both), found[key].count(base), prior, self.spec.strength(key))


def _keys_of(features: Features) -> list[str]:
    return list(dict.fromkeys(f.key.removeprefix(PRIOR) for f in features))


def _parents(key: str, keys: Collection[str]) -> list[str]:
    """The keys whose shares add up to the prior of a pair; shares of the others tend to that of everything."""
    return [p for p in {"user_topic": ("user", "topic"), "user_format": ("user",)}.get(key, ()) if p in keys]


def _actions(catalogue: Catalogue) -> list[str]:
    return [a for a, rows in catalogue.before.items() if len(rows.values)]


def _both(base: str, action: str) -> str:
    return f"{base}∧{action}"


def _counter_names(actions: list[str], base: str) -> list[str]:
    return actions + [_both(base, a) for a in actions if a != base and base in actions]


def _events(catalogue: Catalogue, base: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Counter → users and items of its rows, in the order of `_counter_names`."""
    actions = _actions(catalogue)
    out = {a: (catalogue.before[a].rows, catalogue.before[a].values) for a in actions}
    pairs = {a: user.astype(np.int64) * catalogue.n_items + item for a, (user, item) in out.items()}
    for action in (a for a in actions if a != base and base in actions):
        both = np.isin(pairs[base], pairs[action])
        out[_both(base, action)] = out[base][0][both], out[base][1][both]
    return out
