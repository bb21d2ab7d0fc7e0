"""A slate as people and programs read it: owner's ids, predictions, reasons."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.retrieval.reason import Reason

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine, SlateBatch
    from recsys_cli.pipeline.bundle import Bundle


@dataclass(frozen=True)
class Recommendation:
    """One item of a slate."""

    rank: int
    item_id: int | str
    author_id: int | str | None
    text: str
    score: float
    """utility"""
    sources: list[str]
    """every source that proposed it"""
    predictions: dict[str, float]
    """action → probability; "dwell_seconds" → expected dwell"""
    similarities: dict[str, float]
    """source → similarity of user and item"""
    safety: dict[str, float]
    """safety score of the item, and the combined one as "combined"; empty where none is known"""
    interstitial: list[str]
    """rules of the safety policy that put a notice before it"""
    explored: bool
    """drawn at random by exploration"""
    reason: str


@dataclass(frozen=True)
class Recommendations:
    """The answer for one user."""

    user_id: int | str
    request_id: str
    run_id: str | None
    now: str | None
    """the moment it was made for, ISO 8601 UTC; None where the run knows an order but no time"""
    fallback: str | None
    """why trending and popular items had to help, None where they had not"""
    items: list[Recommendation]
    mix: dict[str, float]
    """source → share of the slate it proposed (an item of several sources counts for each)"""
    funnel: list[dict]
    """stage, candidates in, candidates out, ms"""
    notes: list[str] = field(default_factory=list)
    """what could not be taken as it was given, and what stepped aside in training"""

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def describe_slate(engine: RecommendationEngine, batch: SlateBatch, row: int, user_id: int | str) -> Recommendations:
    """Row `row` of a batch with the owner's ids and a reason for each item."""
    bundle, state = engine.bundle, engine.state
    items = batch.items[row][batch.items[row] >= 0]
    authors = state.catalogue.item_author[items]
    item_ids = bundle.item_ids.external(items)
    author_ids = bundle.author_ids.external(authors)
    names = source_lists(engine, batch, row)
    reasons = reasons_of(engine, batch, row, names)
    scores = {name: column[row] for name, column in batch.scores.items()}
    main = scores.get("utility", scores.get("light"))
    listed = [
        Recommendation(
            rank=i + 1,
            item_id=item_ids[i],
            author_id=author_ids[i],
            text=bundle.labels[int(items[i])],
            score=_number(main[i]),
            sources=names[i],
            predictions={
                ("dwell_seconds" if n == "dwell" else n[2:]): _number(s[i])
                for n, s in scores.items()
                if n.startswith("p_") or n == "dwell"
            },
            similarities={n[4:]: _number(s[i]) for n, s in scores.items() if n.startswith("sim_")},
            safety=_safety(state.catalogue.item_safety, int(items[i]), scores.get("safety"), i),
            interstitial=notices(engine, int(scores["interstitial"][i])) if "interstitial" in scores else [],
            explored=bool(scores["explored"][i]) if "explored" in scores else False,
            reason=reasons[i],
        )
        for i in range(len(items))
    ]
    mix = {s: sum(s in held for held in names) / max(len(items), 1) for s in engine.source_names}
    return Recommendations(
        user_id=user_id,
        request_id=f"{batch.request}-{row}",
        run_id=engine.manifest.id if engine.manifest else None,
        now=None if engine.manifest and engine.manifest.windows.places else str(np.datetime64(state.now, "us")) + "Z",
        fallback=batch.fallback[row],
        items=listed,
        mix={s: share for s, share in mix.items() if share > 0},
        funnel=[{"stage": r.name, "in": r.before, "out": r.after, "ms": round(r.ms, 3)} for r in batch.funnel],
        notes=[*engine.told, *bundle.notes, *engine.notes],
    )


def _number(value) -> float:
    """Six significant digits: more are noise, and they make the output hard to read."""
    return float(f"{float(value):.6g}")


def _safety(safety: dict[str, np.ndarray], item: int, combined: np.ndarray | None, slot: int) -> dict[str, float]:
    out = {name: _number(column[item]) for name, column in safety.items() if np.isfinite(column[item])}
    if combined is not None and np.isfinite(combined[slot]):
        out["combined"] = _number(combined[slot])
    return out


def notices(engine: RecommendationEngine, bits: int) -> list[str]:
    """Names of the safety rules that put a notice before an item, from its "interstitial" score."""
    return [rule.name for n, rule in enumerate(engine.safety_rules.rules) if bits >> n & 1] if bits else []


# a source nearer to the person comes first when several proposed the item
_TELLING = (
    "again", "follow", "friend", "tie", "circle", "similar", "community", "trending", "taste", "popular", "explore",
)


_PERSONAL = ("again", "follow", "friend", "tie", "circle", "similar", "community", "taste")
"""Reasons that speak of what a user did or whom they follow: true of nobody who did nothing."""


def source_lists(engine: RecommendationEngine, batch: SlateBatch, row: int) -> list[list[str]]:
    """Names of the sources that proposed each item of a slate."""
    bits = batch.sources[row][batch.items[row] >= 0]
    return [[s for b, s in enumerate(engine.source_names) if held >> b & 1] for held in bits]


def reasons_of(engine: RecommendationEngine, batch: SlateBatch, row: int, names: list[list[str]]) -> list[str]:
    """Why each item of a slate stands there, in words: what the most telling of its sources (`names`) says.

    Nothing is said of a user's taste or of people they know where nothing is known of them, and nothing is called
    popular or trending that those sources did not propose.
    """
    user = int(batch.users[row])
    items = batch.items[row][batch.items[row] >= 0]
    best: list[Reason | None] = [None] * len(items)
    rank = [len(_TELLING) + 1] * len(items)
    silent = _silent(engine, user)
    for source in engine.source_names:
        at = [i for i in range(len(items)) if source in names[i]]
        if not at or source not in engine.bundle.retrievers:
            continue
        for i, reason in zip(at, engine.bundle.retrievers[source].explain(engine.state, user, items[at]), strict=True):
            place = _TELLING.index(reason.kind) if reason.kind in _TELLING else len(_TELLING)
            if place < rank[i] and reason.kind not in silent:
                best[i], rank[i] = reason, place
    explored = batch.scores.get("explored")
    drawn = np.zeros(len(items)) if explored is None else explored[row]
    return [
        ("explored: drawn at random; " if drawn[i] else "")
        + (f"proposed by {' and '.join(names[i])}" if reason is None else _sentence(engine, reason))
        for i, reason in enumerate(best)
    ]


def _silent(engine: RecommendationEngine, user: int) -> tuple[str, ...]:
    """Kinds of reasons that cannot be true of a user."""
    if user < 0:
        return _PERSONAL
    state = engine.state
    follows = len(state.follows[user]) > 0
    if len(state.history[user]):
        return () if follows else ("follow", "friend", "circle")
    return ("again", "tie", "similar", "community", "taste") if follows else _PERSONAL


LABEL_LENGTH = 80
"""Characters of a text that stand for it where it has no title."""
MENTION_LENGTH = 40
"""Characters of it within a sentence."""


def label_of(text: str, length: int = LABEL_LENGTH) -> str:
    """A title or the start of a text, on one line of at most `length` characters."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def _called(bundle: Bundle, item: int) -> str:
    """What an item is called in a sentence: its title or the start of its text, else its id."""
    return label_of(bundle.labels[item], MENTION_LENGTH) or str(bundle.item_ids.external([item])[0])


def _sentence(engine: RecommendationEngine, reason: Reason) -> str:
    bundle = engine.bundle
    known = reason.refers_to >= 0
    if reason.kind == "follow":
        return (
            f"because you follow {bundle.author_ids.external([reason.refers_to])[0]}"
            if known
            else "because you follow the author"
        )
    if reason.kind == "friend":
        return (
            f"{bundle.user_ids.external([reason.refers_to])[0]}, whom you follow, engaged with it"
            if known
            else "people you follow engaged with it"
        )
    if reason.kind == "tie":
        return f"you often engage with {bundle.author_ids.external([reason.refers_to])[0]}"
    if reason.kind == "circle":
        return f"close to {bundle.user_ids.external([reason.refers_to])[0]}, whom you follow"
    if reason.kind == "similar":
        return f"similar to {_called(bundle, reason.refers_to)}" if known else "similar to what you engaged with"
    if reason.kind == "trending":
        names = engine.state.catalogue.names.get("topics", [])
        return f"trending in {names[reason.refers_to]}" if known and reason.refers_to < len(names) else "trending now"
    return {
        "taste": "matches your taste", "popular": "popular", "explore": "something new",
        "community": "of interest to a community of yours", "again": "you come back to it",
    }.get(reason.kind, reason.kind)
