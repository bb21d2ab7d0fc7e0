"""What each kind of stage says of an item that it lost: (why, what would have had to differ, value, value needed)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import six_digits
from recsys_cli.data.schema import DAY
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filters import LEAST_AGE_DAYS, Blocked, Fresh, Own, Published, Seen
from recsys_cli.pipeline.sourcing import Sourcing
from recsys_cli.pipeline.stage import Filter, Scorer, Stage
from recsys_cli.retrieval.eligibility import age_limit

if TYPE_CHECKING:
    from recsys_cli.pipeline.config import PipelineConfig
    from recsys_cli.pipeline.query import Query
    from recsys_cli.safety.policy import SafetyRules
    from recsys_cli.slate_engine import SlateEngine

Told = tuple[str, str, float | None, float | None]
DEEPEST = 20_000
"""Items of a source's list that are looked through for the item, at most."""
CUTS = {"light": "light", "utility": "utility"}
"""Scorer that cuts → the score by which it does."""


def place_of(candidates: Candidates, item: int) -> int | None:
    """Place from 1 of an item among the filled slots of one user."""
    listed = candidates.items[0][candidates.filled[0]]
    found = np.flatnonzero(listed == item)
    return int(found[0]) + 1 if len(found) else None


def score_of(candidates: Candidates, name: str, item: int) -> float | None:
    """A score of one user's candidate; None where it is not there."""
    found = np.flatnonzero(candidates.items[0] == item)
    score = candidates.scores.get(name)
    return None if score is None or not len(found) else six_digits(score[0, found[0]])


def sources_loss(engine: SlateEngine, query: Query, item: int) -> tuple[str, str, str, float | None, float | None]:
    """The stage of the sources, and what it says of an item that none of them proposed.

    value, needed: the item's place in the list in which it stands furthest up, and the last place that is taken.
    """
    sourcing = next(stage for stage in engine.stages.sourcing if isinstance(stage, Sourcing))
    bundle, best = engine.bundle, None
    depth = min(query.state.catalogue.n_items, DEEPEST)
    for name, k in sourcing.budgets.items():
        listed = bundle.retrievers[name].retrieve(query.state, query.users, depth)[0][0]
        found = np.flatnonzero(listed == item)
        if len(found) and (best is None or found[0] / k < best[1] / best[2]):
            best = name, int(found[0]), k
    names = ", ".join(sourcing.budgets)
    if best is None:
        return (
            sourcing.name, f"no source proposed it: it is on no list of {names}",
            "a source would have to know it: interactions with it, a follow of its author, or a source for new items "
            "(fresh, content)", None, None,
        )
    name, place, k = best
    if place >= k:
        why = f"no source proposed it: {name} has it furthest up, at place {place + 1:,}, and gives about {k:,}"
        differ = f"{name} would have to rank it {place + 1 - k:,} places higher"
    else:
        why = f"no source got it in: {name} has it at place {place + 1:,} of {k:,}, and others came before it"
        differ = "more sources would have to propose it"
    return sourcing.name, why, f"{differ}, or pipeline.sourcing.candidates be larger", place + 1, k


def filter_loss(stage: Filter, query: Query, item: int) -> Told:
    """Of a filter: what it found of the item."""
    catalogue, now = query.state.catalogue, query.state.now
    created = int(catalogue.item_created[item])
    if isinstance(stage, Published):
        hours = (created - now) / DAY * 24
        return (
            f"it is published {hours:,.1f} hours after the moment of the request",
            "the request would have to come later", six_digits(hours), 0.0,
        )
    if isinstance(stage, Fresh):
        days, limit = (now - created) / DAY, age_limit(query.state, stage.days)
        limit = max(limit, LEAST_AGE_DAYS) if stage.days == "auto" else limit
        return (
            f"it is {days:.1f} days old, and what is older than {limit:.1f} is left out",
            "it would have to be younger, or pipeline.filters.max_age_days be larger", six_digits(days), float(limit),
        )
    known = {
        Own: ("the user wrote it", "pipeline.filters.own would have to be off"),
        Blocked: ("the user blocked or muted its author", "the user would have to lift that"),
        Seen: ("the user was shown it before", "pipeline.filters.seen would have to be off"),
    }
    for kind, (why, differ) in known.items():
        if isinstance(stage, kind):
            return why, differ, None, None
    what = (type(stage).__doc__ or "").strip().split("\n")[0].rstrip(".")
    return (
        f"the filter {stage.name} leaves it out" + (f" ({what[0].lower()}{what[1:]})" if what else ""),
        f"it would have to pass {stage.name}, or the request do --without {stage.name}", None, None,
    )


def policy_loss(rules: SafetyRules, query: Query, item: int) -> Told:
    """Of the safety policy: the rule that drops the item."""
    verdicts = rules.verdicts(query.state.catalogue)
    items = np.array([[item]], np.int32)
    acts = verdicts.journal(items, verdicts.followed(query.state, query.users, items))
    for number, score in zip(acts.rule.tolist(), acts.score.tolist(), strict=True):
        rule = rules.rules[number]
        if rule.action == "drop":
            side = "below" if rule.above is None else "above"
            return (
                f"the safety rule {rule.name} drops it: {rule.task} is {score:.3f}, {side} {rule.threshold:g}",
                f"{rule.task} would have to be {'at least' if side == 'below' else 'at most'} {rule.threshold:g}",
                six_digits(score), float(rule.threshold),
            )
    return "the safety policy drops it", "its safety scores would have to be others", None, None


def cut_loss(
    stage: Scorer, after: Candidates, free: list[tuple[Stage, Candidates]], item: int, pipeline: PipelineConfig
) -> Told | None:
    """Of a scorer that keeps the best by a score; None where it would have kept the item, or cuts nothing.

    after: what it gave. free: what each stage gives where none cuts.
    """
    name = CUTS.get(stage.name)
    whole = next((candidates for s, candidates in free if s.name == stage.name), None)
    if name is None or whole is None or place_of(after, item) is not None:
        return None
    place, kept, value = place_of(whole, item), int(after.counts[0]), score_of(whole, name, item)
    if place is None or value is None or place <= getattr(pipeline, _where(name)).keep or not kept:
        return None
    last = six_digits(after.scores[name][0, kept - 1])
    return (
        f"its {name} score {value:.4g} is place {place:,} of {int(whole.counts[0]):,}, and {kept:,} go on",
        f"a {name} score above {last:.4g} ({_more(value, last)}), or pipeline.{_where(name)}.keep of at least "
        f"{place:,}", value, last,
    )


def order_loss(stage: Stage, after: Candidates, earlier: int | None, item: int, size: int) -> Told:
    """Of a stage behind which the item is too far down for the slate; earlier: its place before."""
    place, value = place_of(after, item), score_of(after, "utility", item)
    if earlier is not None and earlier <= size:
        now = f"moves it from place {earlier} " + (f"to {place}" if place else "out of the list")
        return f"{stage.name} {now}, and the slate has {size}", _other_slate(stage), float(place or 0), float(size)
    last = six_digits(after.scores["utility"][0, min(size, int(after.counts[0])) - 1])
    value = 0.0 if value is None else value
    return (
        f"its utility {value:.4g} is place {place} of {int(after.counts[0]):,}, and the slate has {size}",
        f"a utility above {last:.4g} ({_more(value, last)}), or a slate of {place}", value, last,
    )


def _other_slate(stage: Stage) -> str:
    return f"the items above it would have to be others, or the request do --without {stage.name}"


def _more(value: float, needed: float) -> str:
    if value > 0:
        return f"{needed / value - 1:+.1%}"
    return f"{needed - value:+.4g}"


def _where(score: str) -> str:
    return "light" if score == "light" else "heavy"
