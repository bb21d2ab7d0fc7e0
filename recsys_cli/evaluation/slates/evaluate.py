"""Measures slates of any system: the function behind `recsys evaluate --slates` and `recsys_cli.evaluate`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recsys_cli.errors import UsageError
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.intervals import REFUSED, bootstrap_means
from recsys_cli.evaluation.overlap import rank_biased_overlap
from recsys_cli.evaluation.paired import changed, compare, correct, sentence
from recsys_cli.evaluation.slates import metrics as of_slates
from recsys_cli.evaluation.slates.beside import examples
from recsys_cli.evaluation.slates.facts import Facts, facts_of_tables
from recsys_cli.evaluation.slates.pack import Judged, pack
from recsys_cli.evaluation.slates.read import read_attributes, read_slates, read_truth
from recsys_cli.evaluation.slates.segments import by_segment, check, labels_of, worst
from recsys_cli.evaluation.slates.sessions import pack_sessions

LENGTHS = (5, 10, 20, 100)
"""Lengths of list where none are asked for; those longer than every slate are left out."""
GAPS_OF = ("ndcg", "graded_ndcg", "recall", "hit_rate", "precision", "map", "mrr")
"""Metrics whose worst segment is looked for: more of them is better."""
QUOTED = ("ndcg", "graded_ndcg", "recall", "map", "mrr", "hit_rate", "precision", "coverage")
"""What a comparison speaks of first, the first of them that was measured."""


@dataclass(frozen=True)
class SlateReport:
    """What was measured of slates."""

    document: dict[str, Any]
    """all of it; fields: `recsys docs evaluation`"""
    per_user: pl.DataFrame
    """user, system and a column for each metric that is a mean over users"""

    @property
    def figures(self) -> pl.DataFrame:
        """One row a system and metric: system, metric, k, value, low, high."""
        return pl.DataFrame(figure_rows(self.document), infer_schema_length=None)

    def __getitem__(self, metric: str) -> float:
        """The mean of a metric, `ndcg@10`, of the first system."""
        return self.document["systems"][0]["metrics"][metric]["value"]


def evaluate(
    slates: Any,
    truth: Any,
    metrics: Sequence[str] | None = None,
    *,
    k: Sequence[int] | None = None,
    users: Any = None,
    items: Any = None,
    history: Any = None,
    segments: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    negatives: int | None = None,
    sample_of: int | None = None,
    per_session: bool = False,
) -> SlateReport:
    """Measure slates against what people turned to.

    slates: a polars or pandas frame, or a file (CSV, TSV, Parquet, TREC run), with columns user_id, item_id and rank or
    score; or a mapping of names to several, each of which is compared with the first. truth: user_id, item_id and
    maybe relevance, likewise (or TREC qrels). metrics: `ndcg@10`, or `ndcg` for every length in `k`; None measures all
    that the data can give. users, items: attributes with user_id and item_id (topics, author_id). history:
    interactions before the slates were made, for novelty and popularity. segments: attributes of users. negatives:
    measure also by each item's rank among so many drawn at random, with the correction. sample_of: the lists rank
    what was to be found among items drawn from so many, and the correction says what all of them would have given.
    per_session: judge session by session (columns session_id).

    Raises DataError for what cannot be read, and UsageError for a metric or segment that is not known.
    """
    started = time.perf_counter()
    sources = dict(slates) if isinstance(slates, Mapping) else {"slates": slates}
    if not sources:
        raise UsageError("no slates were given", "give a frame, a file, or a mapping of names to several")
    wanted = of_slates.parse(metrics, tuple(k or LENGTHS))
    longest = max(max(lengths) for lengths in wanted.values())
    frames = {name: read_slates(source) for name, source in sources.items()}
    table = None if items is None else read_attributes(items, "item")
    known = None if table is None else table["item"].drop_nulls().unique()
    packed = pack_sessions if per_session else pack
    judged = packed(frames, read_truth(truth), deep(longest, negatives, sample_of), known)
    facts = facts_of_tables(
        judged.users, judged.items, item_table=table,
        user_table=None if users is None else read_attributes(users, "user"),
        history=None if history is None else read_truth(history),
    )
    if k is None:
        wanted = _fitting(wanted, judged, metrics)
    report = measure(
        judged, facts, wanted, segments=segments, resamples=resamples, seed=seed, negatives=negatives,
        sample_of=sample_of,
    )  # fmt: skip
    report.document["seconds"] = round(time.perf_counter() - started, 3)
    return report


def deep(longest: int, negatives: int | None, sample_of: int | None) -> int:
    """How much of a list is needed: all of it where ranks count, else its first `longest`."""
    if negatives is not None and sample_of is not None:
        raise UsageError("--negatives and --sample-of", "lists are rankings of all items, or of samples: name one")
    return longest if negatives is None and sample_of is None else 2**31 - 1


def _fitting(
    wanted: dict[str, tuple[int, ...]], judged: Judged, asked: Sequence[str] | None
) -> dict[str, tuple[int, ...]]:
    """Without the lengths that nobody asked for and that no slate has."""
    width = max(items.shape[1] for items in judged.lists.values())
    named = {text.partition("@")[0].strip().lower() for text in asked or () if "@" in text}
    kept = [n for n in LENGTHS if n <= width] or [max(width, 1)]
    return {m: lengths if m in named else tuple(kept) for m, lengths in wanted.items()}


def measure(
    judged: Judged, facts: Facts, wanted: dict[str, tuple[int, ...]], *, segments: Sequence[str] = (),
    resamples: int = 1000, seed: int = 0, negatives: int | None = None, sample_of: int | None = None,
) -> SlateReport:
    """The report of packed slates; the first system is the one that others are compared with.

    negatives, sample_of: see `evaluate`.
    """
    check(list(segments), facts.users)
    left_out = of_slates.left_out(wanted, judged, facts)
    wanted = {m: lengths for m, lengths in wanted.items() if m not in left_out}
    values = {name: of_slates.by_user(judged, name, wanted, facts) for name in judged.lists}
    if negatives is not None or sample_of is not None:
        lengths = sorted({n for of in wanted.values() for n in of})
        for name, of in values.items():
            of |= of_slates.of_samples(
                judged, name, lengths, facts.n_open, negatives=negatives, sample_of=sample_of, seed=seed
            )
    names = list(next(iter(values.values())))
    unit = np.array([rm.of_unit(n) or n.startswith(("alone_", "sampled_", "em_")) for n in names], bool)
    rows = {name: np.stack([of[m] for m in names], axis=1) if names
            else np.zeros((len(judged.relevant), 0)) for name, of in values.items()}  # fmt: skip
    tables, days = {name: judged.of_users(of) for name, of in rows.items()}, judged.user_days
    k = headline(wanted)
    systems = []
    for name, table in tables.items():
        figures = (
            bootstrap_means(table, resamples=resamples, seed=seed, unit=unit)
            if days is None
            else days.intervals(rows[name], unit)
        )
        systems.append(_system(judged, name, dict(zip(names, zip(*figures, strict=True), strict=True)), wanted, facts))
    shortest = {name: int((items >= 0).sum(axis=1).max(initial=0)) for name, items in judged.lists.items()}
    document = {
        "users": len(judged.users),
        "days": None if days is None else days.days,
        "sessions": None if judged.owner is None else len(judged.owner),
        "samples": {"negatives": negatives, "of": sample_of} if negatives or sample_of else None,
        "items": {"named": len(judged.items), "open": facts.n_open},
        "truth": {"relevant": len(judged.relevant.values), "graded": judged.graded} | _told(judged.truth_counts),
        "k": sorted({n for lengths in wanted.values() for n in lengths}),
        "headline": k,
        "quoted": _quoted(names),
        "seed": seed,
        "systems": systems,
        "comparisons": _comparisons(judged, tables, rows, names, resamples, seed),
        "examples": examples(judged, facts, k),
        "segments": _segments(facts, tables, names, unit, segments, resamples, seed),
        "left_out": left_out,
        "remarks": _remarks(systems, shortest, wanted),
    }
    ids = judged.users.rename("user")
    per_user = pl.concat(
        pl.DataFrame({"user": ids, "system": pl.Series([name] * len(ids), dtype=pl.String)}).hstack(
            [pl.Series(m, table[:, at]) for at, m in enumerate(names)]
        )
        for name, table in tables.items()
    )
    return SlateReport(document, per_user)


def _system(
    judged: Judged, name: str, figures: dict[str, tuple], wanted: dict[str, tuple[int, ...]], facts: Facts
) -> dict:
    """One system of the report; figures: metric → (value, low, high)."""
    found = {m: dict(zip(("value", "low", "high"), map(float, f), strict=True)) for m, f in figures.items()}
    system = {"name": name, "kind": "slates", "rows": _told(judged.counts[name])}
    system |= {"metrics": found | of_slates.of_all(judged, name, wanted, facts)}
    if facts.authors is not None and "provider_gap" in wanted:
        system["providers"] = of_slates.providers(judged, name, headline(wanted), facts)
    return system


def headline(wanted: dict[str, tuple[int, ...]]) -> int:
    """The length that reports speak of first: 10 where it is among them, or the one nearest to it."""
    return min({n for lengths in wanted.values() for n in lengths} or {10}, key=lambda n: (abs(n - 10), n))


def _told(counts: dict[str, int]) -> dict[str, int]:
    return {what: int(count) for what, count in counts.items() if count}


def _comparisons(
    judged: Judged, tables: dict[str, np.ndarray], rows: dict[str, np.ndarray], names: list[str], resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Each further system against the first: the tests, the users and items that change most, and a sentence."""
    first, *others = tables
    out, quoted = [], _quoted(names)
    compared = [
        compare(rows[first], rows[other], names, resamples=resamples, seed=seed, days=judged.user_days)
        if judged.by_day
        else compare(tables[first], tables[other], names, resamples=resamples, seed=seed)
        for other in others
    ]
    correct(compared, quoted)
    for other, tests in zip(others, compared, strict=True):
        row = {"first": first, "second": other, "metrics": tests, "sentence": None, "users": [], "items": []}
        if quoted is not None:
            at = names.index(quoted)
            row["sentence"] = sentence(quoted, tests[quoted], first, other)
            row["users"] = [
                {"user": judged.users[u], "metric": quoted, "first": float(tables[first][u, at]),
                 "second": float(tables[other][u, at]), "change": change}
                for u, change in changed(tables[first][:, at], tables[other][:, at])
            ]  # fmt: skip
        row["items"] = _items_changed(judged, first, other)
        alike = rank_biased_overlap(*_of_one_width(judged.lists[first], judged.lists[other]))
        alike = judged.of_users(alike[:, None])
        value, low, high = bootstrap_means(alike, resamples=resamples, seed=seed, unit=True)
        row["overlap"] = {"value": float(value[0]), "low": float(low[0]), "high": float(high[0])}
        out.append(row)
    return out


def _of_one_width(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = max(first.shape[1], second.shape[1])
    return tuple(np.pad(i, ((0, 0), (0, width - i.shape[1])), constant_values=-1) for i in (first, second))


def _quoted(names: list[str]) -> str | None:
    for metric in QUOTED:
        lengths = [int(n.partition("@")[2]) for n in names if n.partition("@")[0] == metric]
        if lengths:
            return f"{metric}@{min(lengths, key=lambda n: (abs(n - 10), n))}"
    return names[0] if names else None


def _items_changed(judged: Judged, first: str, second: str, most: int = 10) -> list[dict[str, Any]]:
    """The items whose number of lists changes most."""
    counts = [np.bincount(i[i >= 0], minlength=len(judged.items)) for i in (judged.lists[first], judged.lists[second])]
    less = counts[1] - counts[0]
    order = np.argsort(-np.abs(less), kind="stable")[:most]
    return [
        {"item": judged.items[int(i)], "first": int(counts[0][i]), "second": int(counts[1][i]), "change": int(less[i])}
        for i in order
        if less[i]
    ]


def _segments(
    facts: Facts, tables: dict[str, np.ndarray], names: list[str], unit: np.ndarray, segments: Sequence[str],
    resamples: int, seed: int,
) -> list[dict[str, Any]]:
    """Each attribute of each system: its segments, the worst by each metric, and how values were put together."""
    out = []
    for attribute in segments:
        labels, remark = labels_of(facts.users[attribute])
        for system, table in tables.items():
            rows = by_segment(labels, table, names, unit, resamples=resamples, seed=seed)
            lowest = {n: worst(rows, n) for n in names if n.partition("@")[0] in GAPS_OF}
            out.append(
                {"by": attribute, "system": system, "remark": remark, "segments": rows,
                 "worst": {n: w for n, w in lowest.items() if w is not None}}
            )  # fmt: skip
    return out


def _remarks(systems: list[dict], longest: dict[str, int], wanted: dict[str, tuple[int, ...]]) -> list[str]:
    """What a reader must know before the figures."""
    out = []
    most = max(n for lengths in wanted.values() for n in lengths) if wanted else 0
    for name, width in longest.items():
        if width < most:
            out.append(f"{name}: the longest list holds {width:,} items; places beyond count as empty")
    refused = sorted(
        {m.partition("@")[0] for s in systems for m, f in s["metrics"].items()
         if f["low"] != f["low"] and f["value"] == f["value"] and m.partition("@")[0] not in of_slates.OF_ALL}
    )  # fmt: skip
    if refused:
        out.append(f"{', '.join(refused)}: {REFUSED}")
    return out


def figure_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a system, metric and length of list; `part` tells a segment, a gap and a comparison apart."""
    rows: list[dict[str, Any]] = []

    def add(part: str, system: str, of: str | None, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        for name, figure in metrics.items():
            metric, _, k = name.partition("@")
            sides = {side: _number(figure.get(side)) for side in ("value", "low", "high", "p")}
            rows.append({"part": part, "system": system, "of": of, "metric": metric, "k": int(k)} | sides)

    for system in document["systems"]:
        add("metric", system["name"], None, system["metrics"])
    for attribute in document["segments"]:
        for segment in attribute["segments"]:
            of = f"{attribute['by']} = {segment['segment']}"
            add("segment", attribute["system"], of, segment["metrics"])
            add("others less the segment", attribute["system"], of, segment["gap"])
    for comparison in document["comparisons"]:
        metrics = {m: row | {"p": row["p_holm"]} for m, row in comparison["metrics"].items()}
        add("difference", f"{comparison['second']} − {comparison['first']}", None, metrics)
    return rows


def _number(value: Any) -> float | None:
    return float(value) if value is not None and value == value else None
