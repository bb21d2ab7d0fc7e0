"""Which features a dataset gets: every definition with its meaning and formula stands here, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.schema import DAY, HOUR
from recsys_cli.errors import ConfigError, nearest
from recsys_cli.features.before import define_before
from recsys_cli.features.circle import define_circle
from recsys_cli.features.columns import define_columns, define_likenesses, define_request
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.families import CROSS, cross_name, family
from recsys_cli.features.interests import define_interests
from recsys_cli.features.sessions import define_sessions
from recsys_cli.features.spec import Feature, actions_of, hours, strength_of
from recsys_cli.features.tastes import define_tastes
from recsys_cli.features.works import define_works

SINCE = "ln(1 + minutes since then), a year where never"


def define(
    config: FeatureConfig,
    catalogue: Catalogue,
    positive: tuple[str, ...],
    negative: tuple[str, ...],
    has_dwell: bool,
    surfaces: Sequence[str],
    devices: Sequence[str],
    similarities: Sequence[str],
    context: Mapping[str, np.ndarray],
) -> list[Feature]:
    """Every feature that the dataset's columns allow; see `FeatureSpec.create`."""
    families = _available(config, catalogue, surfaces)
    has_length = "duration_seconds" in catalogue.item_numbers
    out: list[Feature] = []
    for source in families:
        if source != "user_item":
            taken = actions_of(positive, negative, source)
            if CROSS in source:
                taken = tuple(a for a in config.cross_actions if a in actions_of(positive, negative, "user"))
            out += _rates(config, source, taken)
        out += _shown(source)
        if has_dwell and source in ("user", "author", "item", "topic", "user_surface"):
            out += _dwell(source, has_length)
    out += _recency(families)
    if "user" in families:
        out += define_sessions(config)
        out += define_interests(families)
    out += _windows(config, families, positive, negative, has_dwell)
    out += _created(catalogue)
    brought = list(define_columns(config, catalogue))
    out += brought
    out += _social(catalogue, negative)
    if "user_topic" in families:
        out.append(
            Feature(
                "topic_match",
                "pair",
                "pair",
                "user_topic",
                "match",
                "likeness of the user's interests and the item's topics",
                "cosine of the counts of the user's interactions by topic with the item's set of topics",
            )
        )
    out += define_works(config, catalogue)
    out += define_circle(catalogue)
    likenesses = list(define_likenesses(config, catalogue))
    out += likenesses
    out += _same(catalogue)
    out += define_tastes(config, catalogue)
    counted = _possible(config.before_families, catalogue, surfaces)
    out += define_before(catalogue, config.before_base, counted)
    out += _context(config.max_categories, surfaces, devices)
    requested = list(define_request(config, catalogue, context))
    out += requested
    for name in similarities:
        out.append(
            Feature(
                f"sim_{name}",
                "pair",
                "pair",
                "similarity",
                "score",
                f"score of the retriever {name} for the pair",
                "as the retriever gives it, 0 where it has none",
                name,
            )
        )
    return _unlike(out, brought + likenesses + requested)


def _unlike(features: list[Feature], brought: list[Feature]) -> list[Feature]:
    """The same features; one of a column that bears the name of another feature becomes NAME_attribute."""
    own = {id(f) for f in brought}
    taken, out = {f.name for f in features if id(f) not in own}, []
    for f in features:
        while id(f) in own and f.name in taken:
            f = replace(f, name=f"{f.name}_attribute")
            own.add(id(f))
        taken.add(f.name)
        out.append(f)
    return out


def _possible(families: Sequence[str], catalogue: Catalogue, surfaces: Sequence[str]) -> list[str]:
    """Those whose keys the dataset's columns give."""
    has_author, has_topics = bool(catalogue.n_authors), len(catalogue.item_topics.values) > 0
    has_format = "media_type" in catalogue.item_codes or "duration_seconds" in catalogue.item_numbers
    missing = set()
    missing |= set() if has_author else {"author", "user_author"}
    missing |= set() if has_topics else {"topic", "user_topic"}
    missing |= set() if has_format else {"user_format"}
    missing |= set() if surfaces else {"surface", "user_surface", "item_surface"}
    return [f for f in dict.fromkeys(families) if f not in missing]


def _available(config: FeatureConfig, catalogue: Catalogue, surfaces: Sequence[str]) -> list[str]:
    out = _possible(config.families, catalogue, surfaces)
    for attribute in dict.fromkeys(config.attribute_families):
        if attribute not in catalogue.item_codes:
            close = nearest(attribute, catalogue.item_codes)
            raise ConfigError(
                f"features.attribute_families: items have no category {attribute!r}",
                f"did you mean {close!r}?"
                if close
                else f"they have {', '.join(sorted(catalogue.item_codes)) or 'none'}",
            )
        out.append(f"value_{attribute}")
    return out + [cross_name(c) for c in dict.fromkeys(config.crosses) if _crossable(c, catalogue, surfaces)]


def _crossable(parts: tuple[str, str], catalogue: Catalogue, surfaces: Sequence[str]) -> bool:
    """Whether the dataset has both; raises ConfigError where a part can be none of any dataset."""
    there = {
        "user": True, "item": True, "author": bool(catalogue.n_authors), "surface": bool(surfaces), "daypart": True
    }
    for part in parts:
        side, dot, name = part.partition(".")
        if dot and side in ("user", "item") and name:
            there[part] = name in getattr(catalogue, f"{side}_codes")
        elif part not in there:
            raise ConfigError(
                f"features.crosses: {part!r} is nothing to count over",
                f"a part is one of {', '.join(there)}, user.ATTRIBUTE, item.ATTRIBUTE",
            )
    if parts[0] == parts[1]:
        raise ConfigError(f"features.crosses: {parts[0]!r} is crossed with itself", "name two different parts")
    return all(there[p] for p in parts)


def _rates(config: FeatureConfig, source: str, actions: tuple[str, ...]) -> Iterator[Feature]:
    f = family(source)
    strength = strength_of(config.smoothing, source)
    prior = " + ".join(f.parents) or "everything"
    for action in actions:
        yield Feature(
            f"{source}_{action}_logodds",
            f.group,
            f.place,
            source,
            "rate",
            f"how often {f.of} led to {action}",
            f"log-odds of (count + {strength:g}·prior) / (impressions + {strength:g}), prior from {prior}",
            action,
        )


def _shown(source: str) -> Iterator[Feature]:
    f = family(source)
    if source == "surface":
        return
    yield Feature(
        f"{source}_impressions", f.group, f.place, source, "shown", f"impressions of {f.of}", "ln(1 + impressions)"
    )


def _dwell(source: str, has_length: bool) -> Iterator[Feature]:
    f = family(source)
    yield Feature(
        f"{source}_dwell",
        f.group,
        f.place,
        source,
        "dwell",
        f"mean time spent with {f.of}",
        "smoothed mean of ln(1 + seconds)",
    )
    if has_length:
        yield Feature(
            f"{source}_completion",
            f.group,
            f.place,
            source,
            "completion",
            f"mean share of the length watched with {f.of}",
            "smoothed mean of min(seconds / length, 3)",
        )


def _same(catalogue: Catalogue) -> Iterator[Feature]:
    for name in catalogue.user_codes:
        if name in catalogue.item_codes and all(f"{s}.{name}" in catalogue.names for s in ("user", "item")):
            yield Feature(
                f"same_{name}", "pair", "pair", "same", "same", f"user and item have the same {name}", "1 or 0", name
            )


def _recency(families: list[str]) -> Iterator[Feature]:
    for source, measures in {
        "user": ("since_shown", "since_positive"),
        "user_author": ("since_shown", "since_positive"),
        "user_topic": ("since_positive",),
        "user_item": ("since_shown",),
    }.items():
        f = family(source)
        if source in ("user_author", "user_topic") and source in families and "user" in families:
            yield Feature(
                f"{source}_session", f.group, f.place, source, "session",
                f"impressions of {f.of} in this visit so far", "ln(1 + impressions)",
            )
        for measure in measures if source in families else ():
            what = "impression" if measure == "since_shown" else "interaction"
            yield Feature(
                f"{source}_{measure}", f.group, f.place, source, measure, f"time since the last {what} of {f.of}", SINCE
            )


def _windows(
    config: FeatureConfig, families: list[str], positive: tuple[str, ...], negative: tuple[str, ...], has_dwell: bool
) -> Iterator[Feature]:
    def window(source: str, name: str, span: int, action: str) -> Feature:
        f = family(source)
        what = {"": "impressions", "positive": "interactions"}.get(action, action)
        return Feature(
            f"{source}_{what}_{name}",
            f.group,
            f.place,
            source,
            "window",
            f"{what} of {f.of} in the last {name}",
            f"ln(1 + {what} in the last {name})",
            action,
            span,
        )

    if "user" in families:
        for name, span in hours(config.user_windows_hours):
            yield window("user", name, span, "")
        for count in dict.fromkeys(config.last_impressions):
            for action in positive if count == max(config.last_impressions) else ("positive",):
                yield Feature(
                    f"user_{action}_last_{count}",
                    "user",
                    "user",
                    "user",
                    "latest",
                    f"share of {action} in the user's last {count} impressions",
                    f"(count + 2·prior) / (impressions + 2) over the last {count}",
                    action,
                    count,
                )
            if has_dwell:
                yield Feature(
                    f"user_dwell_last_{count}", "user", "user", "user", "latest_dwell",
                    f"mean time spent with the user's last {count} impressions",
                    f"(sum of ln(1 + seconds) + 2·mean) / (known + 2) over the last {count}", "", count,
                )
    if "item" in families:
        for name, span in hours(config.item_windows_hours):
            yield window("item", name, span, "")
            yield from (window("item", name, span, action) for action in _window_actions(config, positive, negative))
        [(name, span)] = hours([config.burst_hours])
        yield Feature(
            "item_burst", "item", "item", "item", "burst", "interactions with the item against its own average",
            f"ln((1 + interactions in the last {name}) / (1 + what its mean since the first impression brings))",
            "positive", span,
        )
        yield Feature(
            "item_trend",
            "item",
            "item",
            "item",
            "decayed",
            "interactions with the item, recent ones weighing more",
            f"ln(1 + Σ 2^(−age / {config.trend_half_life_hours:g} h))",
            "positive",
            round(config.trend_half_life_hours * HOUR),
        )
    if "user_author" in families:
        yield Feature(
            "tie_strength",
            "pair",
            "pair",
            "user_author",
            "decayed",
            "interactions of the user with the author, recent ones weighing more",
            f"ln(1 + Σ 2^(−age / {config.tie_half_life_days:g} d))",
            "positive",
            round(config.tie_half_life_days * DAY),
        )
    if "user_topic" in families and config.topic_half_life_days is not None:
        yield Feature(
            "topic_interest", "pair", "pair", "user_topic", "decayed",
            "interactions of the user with the item's topics, recent ones weighing more",
            f"ln(1 + Σ 2^(−age / {config.topic_half_life_days:g} d))", "positive",
            round(config.topic_half_life_days * DAY),
        )


def _window_actions(config: FeatureConfig, positive: tuple[str, ...], negative: tuple[str, ...]) -> tuple[str, ...]:
    known = (*positive, *negative, "positive", "negative")
    for action in config.item_window_actions:
        if action not in known:
            close = nearest(action, known)
            raise ConfigError(
                f"features.item_window_actions: no action {action!r}",
                f"did you mean {close!r}?" if close else f"there are {', '.join(known)}",
            )
    return tuple(dict.fromkeys(config.item_window_actions))


def _created(catalogue: Catalogue) -> Iterator[Feature]:
    for side, created in (("user", catalogue.user_created), ("item", catalogue.item_created)):
        known = created > 0
        if known.any():
            name = "user_account_age" if side == "user" else "item_age"
            yield Feature(name, side, side, "created", "age", f"age of the {side}", "ln(1 + hours since created)")
            if known.mean() < 0.99:
                yield Feature(
                    f"{name}_missing", side, side, "created", "missing", f"the {side}'s age is unknown", "1 or 0"
                )


def _social(catalogue: Catalogue, negative: tuple[str, ...]) -> Iterator[Feature]:
    if not catalogue.n_authors:
        return

    def feature(name: str, group: str, place: str, meaning: str, formula: str) -> Feature:
        return Feature(name, group, place, "social", name, meaning, formula)

    yield feature("follows_author", "pair", "pair", "the user follows the author", "1 or 0")
    yield feature("author_followers", "author", "item", "followers of the author", "ln(1 + followers)")
    yield feature("user_following", "user", "user", "authors the user follows", "ln(1 + authors)")
    if (catalogue.author_user >= 0).any():
        yield feature("user_followers", "user", "user", "followers of the user", "ln(1 + followers)")
        yield feature("mutual_follow", "pair", "pair", "user and author follow each other", "1 or 0")
        yield feature("follows_user", "pair", "pair", "the author follows the user", "1 or 0")
    if {"block", "mute"} & set(negative):
        yield feature("author_blockers", "author", "item", "users who blocked or muted the author", "ln(1 + users)")
        yield feature("user_blocking", "user", "user", "authors the user blocked or muted", "ln(1 + authors)")


def _context(most: int, surfaces: Sequence[str], devices: Sequence[str]) -> Iterator[Feature]:
    for name, period in (("hour", DAY), ("weekday", 7 * DAY)):
        for wave in ("sine", "cosine"):
            yield Feature(
                f"{name}_{wave}",
                "context",
                "context",
                "clock",
                wave,
                f"time of the {'day' if name == 'hour' else 'week'}",
                f"{wave} of the place in the {'day' if name == 'hour' else 'week'}, UTC",
                span=period,
            )
    for name, values in (("surface", surfaces), ("device", devices)):
        if len(values):
            yield Feature(
                name,
                "context",
                "context",
                "request",
                "category",
                f"the {name} of the request",
                "code + 1, 0 unknown",
                name,
                len(values),
                min(len(values) + 1, most),
            )
