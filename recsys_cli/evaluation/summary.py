"""What of an evaluation report matters first: a verdict in words, and the dozen lines behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from recsys_cli.evaluation.figures import headline
from recsys_cli.evaluation.rankings import BEST_SOURCE, FUNNEL, POPULARITY, RANKING, SOURCES_ALONE

if TYPE_CHECKING:
    from collections.abc import Iterable

AS_SOURCE = f"{POPULARITY} (source)"
"""Name of the source that proposes by popularity, beside the baseline."""
SOURCES_NAMED = 3
"""Sources that the summary names, the best."""
Outcome = Literal["beats", "ties with", "loses to", "cannot be told from"]


def outcome(figure: dict[str, float]) -> Outcome:
    """What a difference with its 95 % interval says of the first of two systems."""
    low, high = figure["low"], figure["high"]
    if low is None or high is None or low != low or high != high:
        return "cannot be told from"
    return "beats" if low > 0 else "loses to" if high < 0 else "ties with"


def verdict(document: dict[str, Any]) -> list[str]:
    """A sentence on the list against its best source and against popularity, and one on what re-ranking costs."""
    k = headline(document["k"], document["slate_size"])
    metrics = {s["name"]: s["metrics"] for s in document["systems"]}
    out = []
    for row in document["against"]:
        name, figure = row["against"], row["metrics"][f"ndcg@{k}"]
        # as a source it is the same list
        if row["role"] == RANKING or (row["role"] == POPULARITY and document["against"][0]["against"] == AS_SOURCE):
            continue
        known = "its best source, " if row["role"] == BEST_SOURCE else ""
        ours, theirs = (metrics[n][f"ndcg@{k}"]["value"] for n in (FUNNEL, name))
        noise = ", within noise" if outcome(figure) == "ties with" else ""
        out.append(
            f"The list {outcome(figure)} {known}{name}: NDCG@{k} {ours:.3f} against {theirs:.3f}, "
            f"{_signed(figure)}{noise}."
        )
    return [*out, *_price(document, k)]


def _price(document: dict[str, Any], k: int) -> Iterable[str]:
    """What exploration, caps and safety take from the ranking and what they give for it."""
    row = next((r for r in document["against"] if r["role"] == RANKING), None)
    if row is None:
        return
    metrics = {s["name"]: s["metrics"] for s in document["systems"]}
    parts = [f"NDCG@{k} {_signed(row['metrics'][f'ndcg@{k}'])}"]
    for metric, words in (("diversity", "topic diversity"), ("authors", "distinct authors"), ("coverage", "coverage")):
        after, before = (metrics[n][f"{metric}@{k}"]["value"] for n in (FUNNEL, RANKING))
        if after is not None and before is not None and after == after and before == before:
            parts.append(f"{words} {after - before:+.3f}")
    yield f"Exploration, caps and safety change the ranking by {', '.join(parts)}."


def _signed(figure: dict[str, float]) -> str:
    """`+0.053 (+0.046 to +0.060)`."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or value != value:
        return "unknown"
    return f"{value:+.3f}" if low is None or low != low else f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def leading(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The systems of the summary: the funnel, the ranking behind it, the merge, the best sources, the baselines."""
    k = headline(document["k"], document["slate_size"])
    quality = {s["name"]: s["metrics"][f"ndcg@{k}"]["value"] for s in document["systems"] if s["kind"] == "source"}
    sources = [s for s in document["systems"] if quality.get(s["name"]) is not None]
    # a source without a figure (NaN) stands last
    sources.sort(key=lambda s: -quality[s["name"]] if quality[s["name"]] == quality[s["name"]] else 1.0)
    named = {s["name"]: s for s in document["systems"] if s["kind"] != "source"}
    sources = [s for s in sources if s["name"] not in (AS_SOURCE, "random (source)")]
    first = [named[n] for n in (FUNNEL, RANKING, SOURCES_ALONE) if n in named]
    last = [named[n] for n in (POPULARITY, "random", "oracle") if n in named]
    return [*first, *sources[:SOURCES_NAMED], *last]
