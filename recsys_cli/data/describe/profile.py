"""What a dataset holds: counts, rates, distributions with their tails, homophily, sessions, rhythm."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import polars as pl

from recsys_cli.arrays import distinct
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.intact import open_intact
from recsys_cli.data.log import Log
from recsys_cli.data.schema import DAY, HOUR, PARTS, SAFETY_COLUMNS, SECOND
from recsys_cli.progress import Progress

SESSION_GAP = 30 * 60 * SECOND
"""Where the log names no sessions, a pause of half an hour ends one."""
SIMILAR = 0.5
"""Cosine from which two interest profiles count as similar."""
PAIRS = 100_000
"""Pairs of people drawn for homophily."""


def describe_dataset(folder: str | os.PathLike, progress: Progress | None = None, *, seed: int = 42) -> dict:
    """Everything `recsys data describe` shows, as plain values for JSON.

    Raises DataError where the dataset cannot be read.
    """
    data = open_intact(folder, None)
    with (progress or Progress()).step("describe", 7) as step:
        log, m = data.log, data.manifest
        out: dict = {
            "dataset": str(data.path),
            "name": m.name,
            "digest": m.digest,
            "has_time": m.has_time,
            "has_order": m.has_order,
            "negatives_observed": m.negatives_observed,
            "authors_are_users": m.authors_are_users,
            "splits": _parts(data, log),
            "counts": _counts(data, log),
        }
        step.advance()
        out["actions"] = [
            {
                "action": a,
                "polarity": info.polarity,
                "count": info.count,
                "rate": info.count / max(len(log), 1),
            }
            for a, info in m.actions.items()
        ]
        out["dwell_seconds"] = None if log.dwell is None else quantiles(log.dwell[~np.isnan(log.dwell)])
        out["by_position"] = _by_position(log)
        step.advance()
        out["distributions"] = _distributions(data, log)
        step.advance()
        out["homophily"] = _homophily(data, log, seed)
        step.advance()
        out["sessions"] = _sessions(log) if m.has_time else None
        step.advance()
        out["rhythm"] = _rhythm(data, log) if m.has_time else None
        step.advance()
        out["safety"] = _safety(data, log)
        out["categories"] = _categories(data, log)
        step.advance()
    return out


def rows_of(document: dict) -> list[dict]:
    """The description as rows of section, name and value, for CSV and Parquet."""
    rows = [{"section": "counts", "name": k, "value": _real(v)} for k, v in document["counts"].items()]
    rows += [{"section": "action_rate", "name": a["action"], "value": a["rate"]} for a in document["actions"]]
    for name, d in document["distributions"].items():
        rows += [
            {"section": name, "name": k, "value": _real(v)}
            for k, v in d.items()
            if isinstance(v, int | float)
        ]
        rows += [
            {"section": name, "name": f"tail_{k}", "value": _real(v)} for k, v in (d["tail"] or {}).items()
        ]
    for section in ("homophily", "dwell_seconds"):
        rows += [
            {"section": section, "name": k, "value": _real(v)}
            for k, v in (document[section] or {}).items()
            if isinstance(v, int | float)
        ]
    for hour, count in enumerate((document["rhythm"] or {}).get("impressions_by_hour", [])):
        rows.append({"section": "impressions_by_hour", "name": str(hour), "value": float(count)})
    return rows


def _real(value) -> float | None:
    return None if value is None else float(value)


def _counts(data: Dataset, log: Log) -> dict:
    m = data.manifest
    users, items = data.users.height, data.items.height
    pairs = len(_distinct(log.user, log.item, items))
    return {
        "users": users,
        "active_users": int(np.count_nonzero(np.bincount(log.user, minlength=1))),
        "items": items,
        "shown_items": int(np.count_nonzero(np.bincount(log.item, minlength=1))),
        "authors": len(np.unique(data.item_author[data.item_author >= 0])),
        "impressions": len(log),
        "interactions": int(log.positive.sum()),
        "with_negative_action": int(log.negative.sum()),
        **{t: m.tables[t].rows for t in ("follows", "blocks", "history") if t in m.tables},
        "days": (m.time_span[1] - m.time_span[0]) / DAY if m.time_span else None,
        "first": m.time_span[0] if m.time_span else None,
        "last": m.time_span[1] if m.time_span else None,
        "density": pairs / max(users * items, 1),
    }


def _distinct(first: np.ndarray, second: np.ndarray, width: int) -> np.ndarray:
    """int64: first · width + second of the pairs that occur, ascending."""
    pairs = first.astype(np.int64)
    pairs *= max(width, 1)
    pairs += second
    return distinct(pairs)


def _parts(data: Dataset, log: Log) -> dict[str, dict] | None:
    """Rows of each published part, and from when to when where there is time; None where there are none."""
    if data.manifest.splits is None:
        return None
    out = {}
    for name, (start, end) in data.manifest.splits.items():
        rows = (log.part == PARTS.index(name)).sum() if log.part is not None else len(log.window(start, end))
        span = {"start": start, "end": end} if data.manifest.has_time else {"start": None, "end": None}
        out[name] = {"rows": int(rows), **span}
    return out


def quantiles(values: np.ndarray) -> dict:
    """Mean, median, 90th percentile and maximum."""
    if len(values) == 0:
        return {"mean": None, "median": None, "p90": None, "max": None}
    median, p90 = np.quantile(values, [0.5, 0.9])
    return {
        "mean": float(np.mean(values, dtype=np.float64)),
        "median": float(median),
        "p90": float(p90),
        "max": float(values.max()),
    }


# --- distributions ----------------------------------------------------------------------------------------


def tail_exponent(counts: np.ndarray, *, least: int = 50, candidates: int = 100) -> dict | None:
    """Power-law exponent of the tail of positive integers, with the xmin from which it holds.

    The maximum-likelihood estimate for discrete data in its approximation α = 1 + n / Σ ln(x / (xmin - ½)),
    xmin being the value whose fit has the least Kolmogorov–Smirnov distance (Clauset, Shalizi and Newman,
    SIAM Review 2009, eq. 3.7 and section 3.3); the approximation is within 1 % for xmin ≥ 6. Tails of fewer
    than `least` values, or spanning less than a factor of 3, are not considered. Returns {alpha,
    standard_error, xmin, n, ks}, or None where there is no such tail. A small distance does not prove a
    power law.
    """
    x = np.sort(counts[counts > 0].astype(np.float64))
    values, first = np.unique(x, return_index=True)
    usable = np.flatnonzero(len(x) - first >= least)
    usable = usable[values[usable] * 3 <= values[-1]] if len(values) else usable
    if len(usable) == 0:
        return None
    if len(usable) > candidates:
        usable = usable[np.unique(np.linspace(0, len(usable) - 1, candidates).astype(int))]
    best = None
    for place in usable:
        start, low = first[place], values[place] - 0.5
        tail, n = x[start:], len(x) - start
        alpha = 1 + n / np.sum(np.log(tail / low))
        points, below = values[place:], first[place:] - start
        ks = float(np.abs(1 - below / n - (np.maximum(points - 0.5, low) / low) ** (1 - alpha)).max())
        if best is None or ks < best["ks"]:
            best = {
                "alpha": float(alpha),
                "standard_error": float((alpha - 1) / np.sqrt(n)),
                "xmin": int(values[place]),
                "n": int(n),
                "ks": ks,
            }
    return best


def distribution(counts: np.ndarray) -> dict:
    """How a count is spread over its owners: quantiles, inequality, tail and the share at or above each value.

    counts: int[n], one an owner. `ccdf` holds at most 60 points (x, share of owners with count ≥ x).
    """
    counts = np.asarray(counts, dtype=np.int64)
    ordered = np.sort(counts)
    n, total = len(ordered), int(ordered.sum())
    gini = (
        float(2 * np.sum(np.arange(1, n + 1) * ordered.astype(np.float64)) / (n * total) - (n + 1) / n)
        if total
        else None
    )
    top = max(1, n // 100)
    values = np.unique(ordered[ordered > 0])
    if len(values) > 60:
        values = values[
            np.unique(
                np.searchsorted(values, np.geomspace(values[0], values[-1], 60)).clip(0, len(values) - 1)
            )
        ]
    return {
        **quantiles(counts),
        "zero_share": float(np.mean(counts == 0)) if n else None,
        "gini": gini,
        "top_percent_share": float(ordered[n - top :].sum() / total) if total else None,
        "tail": tail_exponent(counts),
        "ccdf": {
            "x": values.tolist(),
            "share": (1 - np.searchsorted(ordered, values, "left") / max(n, 1)).tolist(),
        },
    }


def _distributions(data: Dataset, log: Log) -> dict:
    users, items = data.users.height, data.items.height
    positive = log.positive
    out = {
        "impressions_per_user": np.bincount(log.user, minlength=users),
        "interactions_per_user": np.bincount(log.user[positive], minlength=users),
        "impressions_per_item": np.bincount(log.item, minlength=items),
        "interactions_per_item": np.bincount(log.item[positive], minlength=items),
    }
    if (data.item_author >= 0).any():
        author = data.item_author[data.item_author >= 0]
        out["items_per_author"] = np.bincount(author, minlength=len(data.author_ids))
        if data.manifest.authors_are_users:
            out["items_per_author"] = out["items_per_author"][out["items_per_author"] > 0]
    edges = data.edges("follows")
    if edges is not None:
        out["following"] = np.bincount(edges["from"], minlength=users)
        out["followers"] = np.bincount(edges["to"], minlength=len(data.author_ids))
    return {name: distribution(counts) for name, counts in out.items()}


# --- homophily --------------------------------------------------------------------------------------------


def _homophily(data: Dataset, log: Log, seed: int) -> dict | None:
    """Are people who follow each other more alike than chance?

    Profiles count what a person engaged with and wrote, by topic (by item where items have no topics); alike
    is the cosine of two profiles. Random pairs keep the followers and draw the followees from all who have
    a profile.
    """
    edges = data.edges("follows")
    if edges is None or len(edges["from"]) == 0:
        return None
    features, of = _item_features(data)
    user, author = _profiles(data, log, features)
    rng = np.random.default_rng(seed)
    has_user, has_author = np.diff(user.indptr) > 0, np.diff(author.indptr) > 0
    keep = np.flatnonzero(has_user[edges["from"]] & has_author[edges["to"]])
    out = {
        "profiles_by": of,
        "pairs": len(keep),
        "reciprocal_share": _reciprocity(data, edges),
        "follow_similarity": None,
        "random_similarity": None,
        "follow_similar_share": None,
        "random_similar_share": None,
    }
    if len(keep) == 0:
        return out
    if len(keep) > PAIRS:
        keep = np.sort(rng.choice(keep, PAIRS, replace=False))
    source, target = edges["from"][keep], edges["to"][keep]
    stranger = rng.choice(np.flatnonzero(has_author), len(keep))
    for name, other in (("follow", target), ("random", stranger)):
        cosine = np.asarray(user[source].multiply(author[other]).sum(axis=1)).ravel()
        out[f"{name}_similarity"] = float(cosine.mean())
        out[f"{name}_similar_share"] = float((cosine >= SIMILAR).mean())
    return out


def _item_features(data: Dataset):
    from scipy.sparse import csr_matrix, identity

    n = data.items.height
    if "topics" not in data.items.columns or data.items["topics"].list.len().sum() == 0:
        return identity(n, np.float32, "csr"), "items"
    lengths = data.items["topics"].list.len().fill_null(0).to_numpy()
    topics = data.items.filter(pl.col("topics").list.len() > 0)["topics"].explode()
    codes = topics.cast(pl.String).rank("dense").to_numpy().astype(np.int32) - 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((np.ones(len(codes), np.float32), codes, offsets), (n, int(codes.max()) + 1)), "topics"


def _profiles(data: Dataset, log: Log, features):
    """L2-normalised sparse profiles of users [n_users, F] and of authors [n_authors, F]."""
    from scipy.sparse import csr_matrix, diags

    def unit(matrix):
        norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        matrix = diags(np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)) @ matrix
        matrix = csr_matrix(matrix)
        matrix.eliminate_zeros()
        return matrix

    def group(rows, items, n):
        return csr_matrix((np.ones(len(rows), np.float32), (rows, items)), (n, features.shape[0])) @ features

    rows = np.flatnonzero(log.positive)
    user = group(log.user[rows], log.item[rows], data.users.height)
    wrote = np.flatnonzero(data.item_author >= 0)
    author = group(data.item_author[wrote], wrote, len(data.author_ids))
    if data.manifest.authors_are_users:
        both = unit(user + author)
        return both, both
    return unit(user), unit(author)


def _reciprocity(data: Dataset, edges: dict) -> float | None:
    if not data.manifest.authors_are_users:
        return None
    n = len(data.user_ids)
    there = edges["from"].astype(np.int64) * n + edges["to"]
    back = edges["to"].astype(np.int64) * n + edges["from"]
    return float(np.isin(there, back).mean())


# --- time -------------------------------------------------------------------------------------------------


def _sessions(log: Log) -> dict:
    """Length of sessions in impressions and minutes, and the hours between a user's sessions."""
    # stable, and the log is in order of time
    order = np.argsort(log.user, kind="stable") if log.session is None else np.lexsort((log.session, log.user))
    user = log.user[order]
    new = user[1:] != user[:-1]
    if log.session is not None:
        session = log.session[order]
        new |= session[1:] != session[:-1]
        del session
    time = log.time[order]
    del order
    if log.session is None:
        new |= np.diff(time) > SESSION_GAP
    start = np.concatenate([[0], np.flatnonzero(new) + 1]) if len(user) else np.zeros(0, np.int64)
    end = np.concatenate([start[1:], [len(user)]]).astype(np.int64) - 1 if len(user) else start
    order = np.lexsort((time[start], user[start]))
    start, end = start[order], end[order]
    same = np.diff(user[start]) == 0
    gaps = (time[start[1:]] - time[end[:-1]])[same]
    return {
        "from": "log" if log.session is not None else "pauses of 30 minutes",
        "count": len(start),
        "impressions": quantiles(end - start + 1),
        "minutes": quantiles((time[end] - time[start]) / (60 * SECOND)),
        "gap_hours": quantiles(gaps / HOUR),
        "per_active_user": len(start) / max(len(np.unique(user)), 1),
    }


def _rhythm(data: Dataset, log: Log) -> dict:
    """Counts by hour and weekday (UTC), and by day: impressions, active users, new items."""
    hour = ((log.time // HOUR) % 24).astype(np.int8)
    day = (log.time // DAY).astype(np.int32)
    weekday = ((day + 3) % 7).astype(np.int8)  # 1970-01-01 was a Thursday
    first, last = (int(day[0]), int(day[-1])) if len(log) else (0, -1)
    n = last - first + 1
    active = _distinct(day, log.user, data.users.height + 1) // (data.users.height + 1)
    out = {
        "impressions_by_hour": np.bincount(hour, minlength=24).tolist(),
        "interactions_by_hour": np.bincount(hour[log.positive], minlength=24).tolist(),
        "impressions_by_weekday": np.bincount(weekday, minlength=7).tolist(),
        "days": [str(np.datetime64(first + i, "D")) for i in range(n)],
        "impressions_by_day": np.bincount(day - first, minlength=n).tolist(),
        "interactions_by_day": np.bincount(day[log.positive] - first, minlength=n).tolist(),
        "active_users_by_day": np.bincount(active - first, minlength=n).tolist(),
        "new_items_by_day": None,
    }
    if "created_at" in data.items.columns:
        created = (
            data.items["created_at"].drop_nulls().cast(pl.Datetime("us")).cast(pl.Int64).to_numpy() // DAY
        )
        out["new_items_by_day"] = np.bincount(
            created[(created >= first) & (created <= last)] - first, minlength=n
        ).tolist()
    return out


# --- labels and categories --------------------------------------------------------------------------------


def _by_position(log: Log) -> dict | None:
    """Share of impressions with a positive action, at each position shown at least 100 times."""
    if log.position is None:
        return None
    known = log.position >= 0
    shown = np.bincount(log.position[known])
    hit = np.bincount(log.position[known], weights=log.positive[known], minlength=len(shown))
    at = np.flatnonzero(shown >= 100)
    return {
        "position": at.tolist(),
        "impressions": shown[at].tolist(),
        "interaction_rate": (hit[at] / shown[at]).tolist(),
    }


def _safety(data: Dataset, log: Log) -> list[dict]:
    out = []
    for name in SAFETY_COLUMNS:
        if name not in data.items.columns:
            continue
        score = data.items[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        known = score[~np.isnan(score)]
        shown = score[log.item]
        shown = shown[~np.isnan(shown)]
        out.append(
            {
                "label": name,
                "items_known": len(known),
                "mean": float(known.mean()) if len(known) else None,
                "items_above_half": float((known > 0.5).mean()) if len(known) else None,
                "impressions_above_half": float((shown > 0.5).mean()) if len(shown) else None,
            }
        )
    return out


def _categories(data: Dataset, log: Log) -> dict[str, dict[str, int]]:
    """Items by media type and language, impressions by surface, device and source; the ten most frequent."""
    held = data.manifest.tables["impressions"].columns
    counts: dict[str, Counter] = {}
    for of, frames, wanted in (
        ("items", [data.items], ("media_type", "language")),
        ("impressions", None, ("surface", "device", "source")),
    ):
        columns = [c for c in wanted if c in (data.items.columns if of == "items" else held)]
        for frame in frames or (data.batches(of, columns) if columns else ()):
            for c in columns:
                found = frame[c].cast(pl.String).fill_null("unknown").value_counts(sort=True)
                counts.setdefault(f"{of} by {c}", Counter()).update(dict(found.iter_rows()))
    return {name: dict(found.most_common(10)) for name, found in counts.items()}
