"""Of late: what was counted over the last hours, days or impressions, and what has a half-life."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from recsys_cli.data.schema import DAY, HOUR
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.features import formulas
from recsys_cli.features.family import Arrays, AsOf, CountedFamily, DatasetFacts, Served, SnapshotInputs, Values, View
from recsys_cli.features.keys import counting_key
from recsys_cli.features.request import Block, FrozenFeatures, Request
from recsys_cli.features.spec import Definitions, Feature, Features


class Windows(CountedFamily):
    """Counts over spans of time, shares over the latest impressions, bursts, and counts that decay."""

    name = "windows"
    needs = ("rates",)

    def define(self, facts: DatasetFacts) -> Definitions:
        config, keys = facts.config, facts.keys
        if "user" in keys:
            yield from _of_users(facts)
        if "item" in keys:
            yield from _of_items(facts)
        if "user_author" in keys:
            yield _decayed(
                "tie_strength", "user_author", "interactions of the user with the author, recent ones weighing more",
                f"{config.tie_half_life_days:g} d", config.tie_half_life_days * DAY,
            )
        if "user_topic" in keys and config.topic_half_life_days is not None:
            yield _decayed(
                "topic_interest", "user_topic",
                "interactions of the user with the item's topics, recent ones weighing more",
                f"{config.topic_half_life_days:g} d", config.topic_half_life_days * DAY,
            )

    def compute(self, features: Features, rows: AsOf) -> Values:
        view = rows.view(features[0].key)
        for f in features:
            yield f.name, _value(f, view, rows)

    def counters(self, features: Features, view: View, inputs: SnapshotInputs, users: np.ndarray) -> Arrays:
        return {f.name: view.decayed(inputs.past.column(f.argument), f.span) for f in features}

    def prepare(self, features: Features, frozen: FrozenFeatures) -> Block:
        return frozen.values("item", [f.name for f in features if f.measure == "decayed" and f.place == "item"])

    def moves(self, feature: Feature) -> bool:
        return feature.measure == "decayed"

    def serve(self, features: Features, request: Request, held: Block) -> Served:
        for f in (f for f in features if f.measure == "decayed"):
            fading = np.float32(2 ** (-request.later / f.span))
            if f.place == "pair":
                yield f.name, formulas.size(request.counted(f.key).count(f.name) * fading)
            elif request.later:
                yield f.name, np.log1p(np.expm1(held.rows(request.items)[..., 0]) * fading)


def _value(f: Feature, view: View, rows: AsOf) -> np.ndarray:
    """float[n], one feature as of each row."""
    if f.measure == "window":
        return formulas.size(view.window(rows.column(f.argument) if f.argument else None, f.span))
    if f.measure == "latest":
        count, of = view.latest(rows.column(f.argument), f.span)
        prior = rows.read(f"user_{f.argument}_logodds")
        return formulas.share(count, of, rows.everything(f.argument) if prior is None else prior)
    if f.measure == "latest_dwell":
        count, of = view.latest(rows.column("dwell_known"), f.span)[0], view.latest(rows.column("dwell"), f.span)[0]
        return formulas.mean(of, count, rows.everything("dwell"), 2.0)
    mask = rows.column(f.argument)
    if f.measure == "burst":
        total, recent = (n.astype(np.float32) for n in (view.sum(mask), view.window(mask, f.span)))
        return formulas.burst(recent, total, rows.time - view.first(), f.span)
    return formulas.size(view.decayed(mask, f.span))


def _window(key: str, name: str, span: int, action: str = "") -> Feature:
    k, what = counting_key(key), {"": "impressions", "positive": "interactions"}.get(action, action)
    return Feature(
        f"{key}_{what}_{name}", k.group, k.place, "window", f"{what} of {k.of} in the last {name}",
        f"ln(1 + {what} in the last {name})", action, span, key=key,
    )


def _decayed(name: str, key: str, meaning: str, half_life: str, span: float) -> Feature:
    k, formula = counting_key(key), f"ln(1 + Σ 2^(−age / {half_life}))"
    return Feature(name, k.group, k.place, "decayed", meaning, formula, "positive", round(span), key=key)


def _of_users(facts: DatasetFacts) -> Iterator[Feature]:
    config = facts.config
    for name, span in _hours(config.user_windows_hours):
        yield _window("user", name, span)
    for count in dict.fromkeys(config.last_impressions):
        for action in facts.positive if count == max(config.last_impressions) else ("positive",):
            yield Feature(
                f"user_{action}_last_{count}", "user", "user", "latest",
                f"share of {action} in the user's last {count} impressions",
                f"(count + 2·prior) / (impressions + 2) over the last {count}", action, count, key="user",
                unit="share",
            )
        if facts.has_dwell:
            yield Feature(
                f"user_dwell_last_{count}", "user", "user", "latest_dwell",
                f"mean time spent with the user's last {count} impressions",
                f"(sum of ln(1 + seconds) + 2·mean) / (known + 2) over the last {count}", "", count, key="user",
                unit="ln seconds",
            )


def _of_items(facts: DatasetFacts) -> Iterator[Feature]:
    config = facts.config
    for name, span in _hours(config.item_windows_hours):
        yield _window("item", name, span)
        yield from (_window("item", name, span, action) for action in _window_actions(facts))
    [(name, span)] = _hours([config.burst_hours])
    yield Feature(
        "item_burst", "item", "item", "burst", "interactions with the item against its own average",
        f"ln((1 + interactions in the last {name}) / (1 + what its mean since the first impression brings))",
        "positive", span, key="item", unit="ln times usual",
    )
    yield _decayed(
        "item_trend", "item", "interactions with the item, recent ones weighing more",
        f"{config.trend_half_life_hours:g} h", config.trend_half_life_hours * HOUR,
    )


def _window_actions(facts: DatasetFacts) -> tuple[str, ...]:
    known = (*facts.positive, *facts.negative, "positive", "negative")
    for action in facts.config.item_window_actions:
        if action not in known:
            raise ConfigError(
                f"features.item_window_actions: no action {action!r}",
                did_you_mean(action, known, f"there are {', '.join(known)}"),
            )
    return tuple(dict.fromkeys(facts.config.item_window_actions))


def _hours(spans: Iterable[float]) -> list[tuple[str, int]]:
    """(name, µs) of spans in hours: 1 → "1h", 24 → "1d"."""
    out = []
    for h in dict.fromkeys(spans):
        span = round(h * HOUR)
        out.append((f"{span // DAY}d" if span % DAY == 0 else f"{h:g}h", span))
    return out
