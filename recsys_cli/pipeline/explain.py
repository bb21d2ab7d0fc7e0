"""A slate as people and programs read it: owner's ids, predictions, reasons."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.retrieval.base import Reason

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine, SlateBatch


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
    """what stepped aside in training"""

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
    bits = batch.sources[row]
    names = [[s for b, s in enumerate(engine.source_names) if bits[i] >> b & 1] for i in range(len(items))]
    reasons = _reasons(engine, int(batch.users[row]), items, names, batch.scores.get("explored"), row)
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
        notes=[*bundle.notes, *engine.notes],
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
_TELLING = ("follow", "friend", "tie", "circle", "similar", "community", "trending", "taste", "popular", "explore")


def _reasons(engine, user: int, items: np.ndarray, names: list[list[str]], explored, row: int) -> list[str]:
    best: list[Reason] = [Reason("popular")] * len(items)
    rank = [len(_TELLING)] * len(items)
    for source in engine.source_names:
        at = [i for i in range(len(items)) if source in names[i]]
        if not at or source not in engine.bundle.retrievers:
            continue
        for i, reason in zip(at, engine.bundle.retrievers[source].explain(engine.state, user, items[at]), strict=True):
            place = _TELLING.index(reason.kind) if reason.kind in _TELLING else len(_TELLING)
            if place < rank[i]:
                best[i], rank[i] = reason, place
    drawn = explored[row] if explored is not None else np.zeros(len(items))
    return [
        ("explored: drawn at random; " if drawn[i] else "") + _sentence(engine, reason) for i, reason in enumerate(best)
    ]


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
        return (
            f"similar to {bundle.item_ids.external([reason.refers_to])[0]}"
            if known
            else "similar to what you engaged with"
        )
    if reason.kind == "trending":
        names = engine.state.catalogue.names.get("topics", [])
        return f"trending in {names[reason.refers_to]}" if known and reason.refers_to < len(names) else "trending now"
    return {
        "taste": "matches your taste", "popular": "popular", "explore": "something new",
        "community": "of interest to a community of yours",
    }.get(reason.kind, reason.kind)
