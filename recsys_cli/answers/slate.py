"""A slate as people and programs read it: owner's ids, predictions, reasons."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import AnswerData, six_digits
from recsys_cli.answers.reasons import reasons_of, source_lists
from recsys_cli.pipeline.exploration.creative_texts import CHANCE, CHOSEN

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.slate_batch import SlateBatch


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
    """put there by exploration"""
    reason: str
    propensity: float | None = None
    """probability with which exploration put it there, given what stands above it; None where nothing is explored"""
    promoted: bool = False
    """stands in a place kept for promoted items"""
    ranks: dict[str, int] = field(default_factory=dict)
    """stage → its place behind it; where asked for"""
    creative: dict[str, str | int | float] | None = None
    """which of its titles or pictures is shown: "number" from 1, "text" and "propensity"; None where it has none"""


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
    path: str = "history"
    """what the answer stands on; see `SlateEngine.path`"""
    slate_propensity: float | None = None
    """probability of the whole slate in its order; None where nothing is explored"""
    notes: list[str] = field(default_factory=list)
    """what could not be taken as it was given, what stepped aside in training, and what failed in this request"""
    failures: list[str] = field(default_factory=list)
    """what failed in this request, and what the slate was made without"""
    remarks: list[str] = field(default_factory=list)
    """what this very slate could not be given as it was asked for; among the notes too"""

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def describe_slate(
    data: AnswerData, batch: SlateBatch, row: int, user_id: int | str, path: str = "history"
) -> Recommendations:
    """Row `row` of a batch with the owner's ids and a reason for each item. path: what the answer stands on."""
    bundle, state = data.bundle, data.state
    items = batch.items[row][batch.items[row] >= 0]
    authors = state.catalogue.item_author[items]
    item_ids = bundle.item_ids.external(items)
    author_ids = bundle.author_ids.external(authors)
    names = source_lists(data, batch, row)
    reasons = reasons_of(data, batch, row, names)
    scores = {name: column[row, : len(items)].tolist() for name, column in batch.scores.items()}
    main = scores.get("utility", scores.get("light"))
    predictions = _named(scores, "p_") | ({"dwell_seconds": _digits(scores["dwell"])} if "dwell" in scores else {})
    similarities = _named(scores, "sim_")
    listed = [
        Recommendation(
            rank=i + 1,
            item_id=item_ids[i],
            author_id=author_ids[i],
            text=bundle.labels[int(items[i])],
            score=six_digits(main[i]),
            sources=names[i],
            predictions={name: values[i] for name, values in predictions.items()},
            similarities={name: values[i] for name, values in similarities.items()},
            safety=_safety(state.catalogue.item_safety, int(items[i]), scores.get("safety"), i),
            interstitial=notices(data, int(scores["interstitial"][i])) if "interstitial" in scores else [],
            explored=bool(scores["explored"][i]) if "explored" in scores else False,
            reason=reasons[i],
            propensity=_propensity(scores, i),
            promoted=bool(scores["promoted"][i]) if "promoted" in scores else False,
            ranks={name: int(places[row][i]) for name, places in batch.ranks.items() if places[row][i]},
            creative=creative_of(bundle, int(items[i]), scores, i),
        )
        for i in range(len(items))
    ]
    failures = [str(failure) for failure in batch.failures]
    remarks = [*(told for told, rows in batch.remarks.items() if rows[row]), *_emptied(batch, row)]
    mix = {s: sum(s in held for held in names) / max(len(items), 1) for s in data.sources}
    return Recommendations(
        user_id=user_id,
        request_id=f"{batch.request}-{row}",
        run_id=data.run,
        now=str(np.datetime64(state.now, "us")) + "Z" if data.timed else None,
        fallback=batch.fallback[row],
        items=listed,
        mix={s: share for s, share in mix.items() if share > 0},
        funnel=[{"stage": r.name, "in": r.before, "out": r.after, "ms": round(r.ms, 3)} for r in batch.funnel],
        path=path,
        slate_propensity=_whole(scores),
        notes=[*data.notes, *remarks, *failures],
        failures=failures,
        remarks=remarks,
    )


def _emptied(batch: SlateBatch, row: int) -> list[str]:
    """Which stage took out the last candidates of an empty slate, where all of the batch ended there."""
    if (batch.items[row] >= 0).any():
        return []
    last = next((r for r in batch.funnel if r.before > 0 and r.after == 0), None)
    took = f"stage {last.name} took out the last {last.before:,.0f} candidates" if last else "no source proposed any"
    return [f"no item is left to recommend: {took}"] if last or not any(r.after for r in batch.funnel) else []


def _digits(values: list[float]) -> list[float]:
    return [six_digits(value) for value in values]


def _named(scores: dict[str, list[float]], start: str) -> dict[str, list[float]]:
    """Name → values of the scores whose names begin so, without that."""
    return {name.removeprefix(start): _digits(values) for name, values in scores.items() if name.startswith(start)}


def creative_of(
    bundle: Bundle, item: int, scores: dict[str, list[float]], i: int
) -> dict[str, str | int | float] | None:
    """What was chosen to be shown of an item, the i-th of a slate with these scores."""
    number = int(scores[CHOSEN][i]) if CHOSEN in scores else 0
    if not number or bundle.creatives is None:
        return None
    return {"number": number, "text": bundle.creatives.text(item, number), "propensity": six_digits(scores[CHANCE][i])}


def _propensity(scores: dict[str, list[float]], i: int) -> float | None:
    told = scores.get("propensity")
    return six_digits(told[i]) if told and told[i] > 0 else None


def _whole(scores: dict[str, list[float]]) -> float | None:
    told = scores.get("slate_propensity")
    return six_digits(told[0]) if told and told[0] > 0 else None


def _safety(safety: dict[str, np.ndarray], item: int, combined: list[float] | None, slot: int) -> dict[str, float]:
    out = {name: six_digits(column[item]) for name, column in safety.items() if np.isfinite(column[item])}
    if combined is not None and np.isfinite(combined[slot]):
        out["combined"] = six_digits(combined[slot])
    return out


def notices(data: AnswerData, bits: int) -> list[str]:
    """Names of the safety rules that put a notice before an item, from its "interstitial" score."""
    return [rule for n, rule in enumerate(data.rules) if bits >> n & 1]
