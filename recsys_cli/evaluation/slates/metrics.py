"""Metrics of packed slates: each at every k for all users at once, and what is no mean over users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_cli.errors import UsageError, did_you_mean
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation import sampled
from recsys_cli.evaluation.slates.facts import Facts
from recsys_cli.evaluation.slates.pack import Judged

BEYOND = {
    "diversity": ("topics", "no table of items with topics"),
    "vector_diversity": ("vectors", "no vectors of items"),
    "authors": ("authors", "no table of items with authors"),
    "novelty": ("audience", "no history of interactions before the lists"),
    "popularity": ("popularity", "no history of interactions before the lists"),
    "serendipity": ("popularity", "no history of interactions before the lists"),
    "popularity_lift": ("profile", "no history of interactions before the lists"),
    "age_days": ("age_days", "no times at which items were published"),
    "unsafe": ("unsafe", "no safety scores of items"),
    "sentiment": ("sentiment", "no column sentiment of items"),
}
"""Metric of a user's list beyond accuracy → the fact that it needs, and what is said without."""
OF_ALL = ("coverage", "gini", "provider_gini", "provider_gap")
"""Metrics that are no mean over users."""
MEASURES = (*rm.ACCURACY, "graded_ndcg", "auc", *BEYOND, *OF_ALL)
HEADINGS = {
    "recall": "Recall", "precision": "Precision", "ndcg": "NDCG", "graded_ndcg": "Graded NDCG", "map": "MAP",
    "mrr": "MRR", "hit_rate": "Hit rate", "r_precision": "R-precision", "auc": "AUC", "diversity": "Topic diversity",
    "vector_diversity": "Vector diversity", "authors": "Distinct authors", "novelty": "Novelty (bits)",
    "popularity": "Popularity", "serendipity": "Serendipity", "popularity_lift": "Popularity lift",
    "age_days": "Age (days)", "unsafe": "Unsafe", "sentiment": "Sentiment",
    "coverage": "Coverage", "gini": "Gini of exposure",
    "provider_gini": "Gini of authors", "provider_gap": "Exposure off merit",
}  # fmt: skip
"""Metric → how tables head it."""
OF_SAMPLES = tuple(f"{kind}_{metric}" for metric in sampled.OF_RANK for kind in sampled.KINDS)
"""Metrics of items ranked alone; see `sampled`."""
HEADINGS |= {m: f"{HEADINGS[m.partition('_')[2]]}, {m.partition('_')[0]}" for m in OF_SAMPLES}
UNSAFE = 0.5
"""Safety scores above this count as unsafe exposure."""


def parse(asked: Sequence[str] | None, ks: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Metric → its lengths of list, from names such as `ndcg@10`; a name without a length has all of `ks`.

    None asks for everything. Raises UsageError for what is no metric.
    """
    out: dict[str, list[int]] = {}
    for text in asked if asked is not None else MEASURES:
        name, _, length = text.strip().lower().partition("@")
        if name not in MEASURES:
            raise UsageError(f"no metric {name!r}", did_you_mean(name, MEASURES, f"known: {', '.join(MEASURES)}"))
        if length and (not length.isdigit() or not int(length)):
            raise UsageError(f"{text!r}: the length of a list is a whole number above 0", "for example ndcg@10")
        out.setdefault(name, []).extend([int(length)] if length else ks)
    return {name: tuple(sorted(set(lengths))) for name, lengths in out.items()}


def left_out(wanted: dict[str, tuple[int, ...]], judged: Judged, facts: Facts) -> dict[str, str]:
    """Metric that the data cannot give → why not."""
    out = {m: why for m, (fact, why) in BEYOND.items() if m in wanted and getattr(facts, fact) is None}
    if "graded_ndcg" in wanted and not judged.graded:
        out["graded_ndcg"] = "all relevant items are worth the same, so that it is ndcg"
    for metric in ("provider_gini", "provider_gap"):
        if metric in wanted and facts.authors is None:
            out[metric] = BEYOND["authors"][1]
    return out


def by_user(judged: Judged, name: str, wanted: dict[str, tuple[int, ...]], facts: Facts) -> dict[str, np.ndarray]:
    """`metric@k` → float64[U] of one system, NaN for a user without a figure."""
    items = judged.lists[name]
    gains = judged.matched(name)
    hit, count = gains > 0, judged.relevant.lengths
    out = {f"{m}@{k}": rm.ACCURACY[m](hit, count, k) for m in rm.ACCURACY for k in wanted.get(m, ())}
    for k in wanted.get("graded_ndcg", ()):
        out[f"graded_ndcg@{k}"] = rm.graded_ndcg(gains, judged.ideal(k), k)
    for k in wanted.get("auc", ()):
        listed = (items[:, :k] >= 0).sum(axis=1)
        out[f"auc@{k}"] = rm.auc(hit[:, :k], count, listed, facts.n_open)
    for metric in BEYOND:
        for k in wanted.get(metric, ()):
            out[f"{metric}@{k}"] = _beyond(metric, items, hit, count, k, facts, judged.owner)
    return out


def of_samples(
    judged: Judged, name: str, ks: Sequence[int], n_open: int, *, negatives: int | None, sample_of: int | None,
    seed: int,
) -> dict[str, np.ndarray]:
    """`sampled_ndcg@10` and the like → float64[rows] of one system.

    negatives: items to draw for each item to find, all being ranked by the list. sample_of: the lists are rankings of
    such samples themselves, of a catalogue of so many items. Raises UsageError where lists hold more than that.
    """
    items, relevant = judged.lists[name], judged.relevant
    hit = judged.matched(name) > 0
    if sample_of is not None:
        rank, drawn = sampled.ranks_within(hit, items, relevant)
        wrong = sample_of - relevant.lengths[relevant.rows]
        if (drawn > wrong).any():
            what = f"{name} has lists longer than the {sample_of:,} items of --sample-of"
            raise UsageError(what, "name the size of the whole catalogue")
        return dict(sampled.by_user(rank, rank, drawn, wrong, relevant, ks, full=False))
    wrong = np.maximum(n_open - relevant.lengths[relevant.rows], 0)
    rank = sampled.full_ranks(hit, items, relevant, n_open, seed)
    wrong = np.maximum(wrong, rank - 1)
    drawn = np.minimum(negatives, wrong)
    among = sampled.drawn_ranks(rank, wrong, negatives, seed)
    return dict(sampled.by_user(rank, among, drawn, wrong, relevant, ks, full=True))


def _beyond(
    metric: str, items: np.ndarray, hit: np.ndarray, count: np.ndarray, k: int, facts: Facts, owner: np.ndarray | None
) -> np.ndarray:
    if metric == "diversity":
        return rm.intra_list_diversity(items, k, facts.topics)
    if metric == "vector_diversity":
        return rm.vector_diversity(items, k, facts.vectors)
    if metric == "authors":
        return rm.distinct_per_list(items, k, facts.authors)
    if metric == "novelty":
        return rm.novelty(items, k, facts.audience, facts.n_people)
    if metric == "popularity":
        return rm.popularity_percentile(items, k, facts.popularity)
    if metric == "serendipity":
        expected = np.argsort(-np.nan_to_num(facts.popularity, nan=-1.0), kind="stable")[:k]
        return rm.serendipity(hit, items, expected, count, k)
    if metric == "popularity_lift":
        profile = facts.profile if owner is None else facts.profile[owner]
        with np.errstate(invalid="ignore", divide="ignore"):
            return rm.mean_of_items(items, k, facts.audience) / profile - 1
    if metric == "age_days":
        return rm.mean_of_items(items, k, facts.age_days)
    if metric == "sentiment":
        return rm.mean_of_items(items, k, facts.sentiment)
    exposed = np.where(np.isfinite(facts.unsafe), facts.unsafe > UNSAFE, np.nan)
    return rm.mean_of_items(items, k, exposed)


def of_all(
    judged: Judged, name: str, wanted: dict[str, tuple[int, ...]], facts: Facts
) -> dict[str, dict[str, float]]:
    """`metric@k` → value, low and high of what is no mean over users; NaN for intervals that are not taken."""
    items, out = judged.lists[name], {}
    for metric in OF_ALL:
        for k in wanted.get(metric, ()):
            if metric == "coverage":
                figure = rm.coverage(items, k, facts.n_open)
            elif metric == "gini":
                shown = items[:, :k]
                counts = np.bincount(shown[shown >= 0], minlength=len(facts.open))
                figure = rm.gini(counts[facts.open]), np.nan, np.nan
            else:
                exposure, merit = provider_shares(judged, items[:, :k], facts)
                value = rm.gini(exposure) if metric == "provider_gini" else 0.5 * np.abs(exposure - merit).sum()
                figure = value, np.nan, np.nan
            out[f"{metric}@{k}"] = dict(zip(("value", "low", "high"), map(float, figure), strict=True))
    return out


def provider_shares(judged: Judged, items: np.ndarray, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Share of exposure and of merit of each author, float64[A] twice, each of sum 1.

    Exposure of a place is 1/log2(rank + 1); the merit of an author is how many relevant pairs of user and item are
    theirs (exposure in proportion to merit: Singh and Joachims, KDD 2018).
    """
    n = max(int(facts.authors.max(initial=-1)) + 1, 1)
    rows, slots = np.nonzero(items >= 0)
    author = facts.authors[items[rows, slots]]
    weight = 1 / np.log2(slots + 2.0)
    exposure = np.bincount(author[author >= 0], weights=weight[author >= 0], minlength=n)
    owner = facts.authors[judged.relevant.values]
    merit = np.bincount(owner[owner >= 0], minlength=n).astype(float)
    return exposure / max(exposure.sum(), 1e-300), merit / max(merit.sum(), 1e-300)


def providers(judged: Judged, name: str, k: int, facts: Facts, most: int = 10) -> list[dict[str, Any]]:
    """The authors whose share of exposure is furthest from their share of merit: who, both shares, their items."""
    exposure, merit = provider_shares(judged, judged.lists[name][:, :k], facts)
    known = facts.authors[facts.authors >= 0]
    items = np.bincount(known, minlength=len(exposure))
    order = np.argsort(-np.abs(exposure - merit), kind="stable")[:most]
    names = facts.author_names or list(range(len(exposure)))
    return [
        {"author": names[a], "exposure": float(exposure[a]), "merit": float(merit[a]), "items": int(items[a])}
        for a in order
        if exposure[a] or merit[a]
    ]
