"""How often and how long: rates of actions, impressions and mean dwell times by what they are counted over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.context import Context
from recsys_cli.features.family import Arrays, AsOf, CountedFamily, DatasetFacts, Served, SnapshotInputs, Values, View
from recsys_cli.features.item_values import ItemValues
from recsys_cli.features.keys import CROSS, PAIR_KEYS, counting_key
from recsys_cli.features.pair_counters import FoundCounters
from recsys_cli.features.request import Block, FrozenFeatures, Request
from recsys_cli.features.spec import Definitions, Feature, Features, strength_of

ITEM_SURFACE = "item_surface"
FEW_CODES = 256
"""Codes for all of which a user's values are worked out, where the prior is of the user alone."""
MEANS = ("dwell", "completion")
_WITH_MEANS = ("user", "author", "item", "topic", "user_surface")
_WITH_INTERACTIONS = ("user", "author", "item", "topic", "user_author", "user_topic")
"""Keys of which interactions are counted too, whatever the actions of the dataset are called."""


class Rates(CountedFamily):
    """Smoothed log-odds of each action, number of impressions, mean dwell time and share watched.

    A rate is smoothed towards those of the key's parents (a user's rate with an author towards the user's and the
    author's), and so are means; see `formulas.log_odds`.
    """

    name = "rates"

    def define(self, facts: DatasetFacts) -> Definitions:
        has_length = "duration_seconds" in facts.catalogue.item_numbers
        for key in facts.keys:
            k = counting_key(key)
            if key != "user_item":
                yield from _rates(facts, key)
            if key != "surface":
                yield Feature(
                    f"{key}_impressions", k.group, k.place, "shown", f"impressions of {k.of}", "ln(1 + impressions)",
                    key=key,
                )
            if facts.has_dwell and key in _WITH_MEANS:
                yield Feature(
                    f"{key}_dwell", k.group, k.place, "dwell", f"mean time spent with {k.of}",
                    "smoothed mean of ln(1 + seconds)", key=key, unit="ln seconds",
                )
                if has_length:
                    yield Feature(
                        f"{key}_completion", k.group, k.place, "completion",
                        f"mean share of the length watched with {k.of}", "smoothed mean of min(seconds / length, 3)",
                        key=key,
                    )

    def compute(self, features: Features, rows: AsOf) -> Values:
        spec, view = rows.past.spec, rows.view(features[0].key)
        shown = view.shown()
        for f in features:
            if f.measure == "shown":
                yield f.name, formulas.size(shown)
            elif f.measure in MEANS:
                known, total = view.sum(rows.column(f"{f.measure}_known")), view.sum(rows.column(f.measure))
                parents = (rows.read(f"{p}_{f.measure}") for p in spec.parents(f.key))
                prior = next((p for p in parents if p is not None), None)
                prior = rows.everything(f.measure) if prior is None else prior
                yield f.name, formulas.mean(total, known, prior, spec.config.dwell_smoothing)
            else:
                count = view.sum(rows.column(f.argument)).astype(np.float32)
                prior = _prior(rows, f)
                yield f.name, formulas.log_odds(count, shown.astype(np.float32), prior, spec.strength(f.key))

    def counters(self, features: Features, view: View, inputs: SnapshotInputs, users: np.ndarray) -> Arrays:
        out, column = {"shown": view.shown()}, inputs.past.column
        for f in features:
            if f.measure == "rate":
                out[f.argument] = view.sum(column(f.argument))
            elif f.measure in MEANS:
                out |= {name: view.sum(column(name)) for name in (f.measure, f"{f.measure}_known")}
        return out

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        of_surface = [f for f in features if f.key == "surface"]
        return {"surface": inputs.values(of_surface, "surface", inputs.past.spec.n_surfaces)} if of_surface else {}

    def prepare(self, features: Features, frozen: FrozenFeatures) -> Block | _Priors | None:
        key = features[0].key
        if key == "surface":
            return _block(frozen, key, [f.name for f in features])
        return _Priors(features, frozen) if key in frozen.pairs else None

    def moves(self, feature: Feature) -> bool:
        return False

    def serve(self, features: Features, request: Request, held: Block | _Priors | None) -> Served:
        if isinstance(held, Block):
            yield tuple(f.name for f in features), held.rows(request.surface)
        elif held is not None:
            yield from _of_pairs(held, features, request)


def _rates(facts: DatasetFacts, key: str) -> Iterator[Feature]:
    k, strength = counting_key(key), strength_of(facts.config.smoothing, key)
    prior = " + ".join(k.parents) or "everything"
    actions = _actions(facts, key)
    if CROSS in key:
        actions = tuple(a for a in facts.config.cross_actions if a in _actions(facts, "user"))
    for action in actions:
        yield Feature(
            f"{key}_{action}_logodds", k.group, k.place, "rate", f"how often {k.of} led to {action}",
            f"log-odds of (count + {strength:g}·prior) / (impressions + {strength:g}), prior from {prior}", action,
            key=key, unit="log-odds",
        )


def _actions(facts: DatasetFacts, key: str) -> tuple[str, ...]:
    """Actions whose rates a key counts; "positive" and "negative" stand for any of them.

    Pairs and surfaces take the negative ones together only: they are rare.
    """
    several = ("negative",) if len(facts.negative) > 1 else ()
    together = several or tuple(facts.negative)
    few = key in (*PAIR_KEYS, "surface")
    out = (*facts.positive, *together) if few else (*facts.positive, *facts.negative, *several)
    return (*out, "positive") if key in _WITH_INTERACTIONS else out


def _prior(rows: AsOf, f: Feature) -> np.ndarray:
    """Log-odds that a rate is smoothed towards."""
    parents = rows.past.spec.parents(f.key)
    if not parents:
        return rows.everything(f.argument)
    own, *others = (rows.needed(f"{parent}_{f.argument}_logodds") for parent in parents)
    for other in others:
        own += other
        own -= rows.everything(f.argument)
    return own


def _block(frozen: FrozenFeatures, key: str, names: Sequence[str]) -> Block:
    """Frozen values of features of one key that is no pair."""
    if key != "surface":
        return frozen.values(counting_key(key).place, names)
    held = [f.name for f in frozen.spec.of_family("rates") if f.key == key]
    return Block(frozen.arrays["rates"]["surface"], held, names)


class _Priors:
    """What the rates and means of one key of pairs are smoothed towards, gathered once for many requests."""

    def __init__(self, features: Features, frozen: FrozenFeatures):
        spec, key = frozen.spec, features[0].key
        self.rates = [f for f in features if f.measure == "rate"]
        self.ordered = self.rates + [f for f in features if f.measure != "rate"]
        of_user = key.startswith(("user_", f"user{CROSS}")) and key != "user_topic"
        self.of_user_alone = of_user and set(spec.parents(key)) <= {"user"}
        self._frozen = frozen
        self._of_surfaces: dict[int, ItemValues] = {}
        self.strength = spec.strength(key) if self.rates else 0.0
        self.every = np.array([frozen.everything[f.argument] for f in self.rates], np.float32)
        self.parents = [
            (p, _block(frozen, p, [f"{p}_{f.argument}_logodds" for f in self.rates])) for p in spec.parents(key)
        ]
        self.means: dict[str, tuple[str, Block] | np.float32] = {}
        for f in (f for f in features if f.measure in MEANS):
            held = [p for p in spec.parents(key) if f"{p}_{f.measure}" in spec.column]
            every = np.float32(frozen.everything[f.measure])
            self.means[f.measure] = (held[0], _block(frozen, held[0], [f"{held[0]}_{f.measure}"])) if held else every

    def on_surface(self, surface: int, request: Request) -> ItemValues:
        """float32[n_items, features] of every item on one surface, each worked out when it is first asked for."""
        if surface not in self._of_surfaces:
            frozen, one = self._frozen, np.full(1, -1, np.int32)
            context = Context(now=frozen.now, surface=np.full(1, surface, np.int16))

            def compute(items: np.ndarray) -> np.ndarray:
                asked = Request(frozen, one, items[None], context, {})
                return _values(self, asked.counted(ITEM_SURFACE), asked)[0]

            self._of_surfaces[surface] = ItemValues(len(frozen.item_block), len(self.ordered), compute)
        return self._of_surfaces[surface]

    def of_rates(self, request: Request) -> np.ndarray:
        """float32[..., rates]"""
        prior = (1 - len(self.parents)) * self.every
        for parent, block in self.parents:
            prior = prior + block.rows(request.who(parent))
        return prior

    def of_mean(self, measure: str, request: Request) -> np.ndarray | np.float32:
        """float32[...]"""
        held = self.means[measure]
        return held[1].rows(request.who(held[0]))[..., 0] if isinstance(held, tuple) else held


def _of_pairs(priors: _Priors, features: Features, request: Request) -> Served:
    """The values of one key of pairs; see `_Priors`."""
    key, keys = features[0].key, request.frozen.keys
    names = tuple(f.name for f in priors.ordered)
    if key == ITEM_SURFACE and len(request.surface) and (request.surface == request.surface[0]).all():
        yield names, priors.on_surface(int(request.surface[0]), request).take(request.items)
    elif priors.of_user_alone and keys.width(key) <= FEW_CODES and counting_key(key).place == "pair":
        # what a user has with a code is the same for all items of that code
        width = keys.width(key)
        codes = np.broadcast_to(np.append(np.arange(width), -1), (len(request.users), width + 1))
        table = _values(priors, request.frozen.pairs[key].of_codes(request.users, width, codes), request)
        at = keys.second(key, request.items, None) % (width + 1) + np.arange(len(codes))[:, None] * (width + 1)
        yield names, table.reshape(-1, len(names)).take(at, axis=0)
    else:
        yield names, _values(priors, request.counted(key), request)


def _values(priors: _Priors, found: FoundCounters, request: Request) -> np.ndarray:
    """float32[..., features] in the order of `priors.ordered`."""
    shown = found.count("shown")
    out = np.empty((*shown.shape, len(priors.ordered)), np.float32)
    rates = len(priors.rates)
    if rates:
        counts = found.several([f.argument for f in priors.rates])
        out[..., :rates] = formulas.log_odds(counts, shown[..., None], priors.of_rates(request), priors.strength)
    for i, f in enumerate(priors.ordered[rates:], rates):
        if f.measure == "shown":
            out[..., i] = formulas.size(shown)
        else:
            total, known = found.count(f.measure), found.count(f"{f.measure}_known")
            prior = priors.of_mean(f.measure, request)
            out[..., i] = formulas.mean(total, known, prior, request.frozen.spec.config.dwell_smoothing)
    return out
