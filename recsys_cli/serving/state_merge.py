"""A state brought forward: what `State.build` gives for a log, from the state of its beginning and the rows that came.

Everything that a state holds adds up, so that the rows that came are enough: counts are added, what decays is weighed
down and added to, and of histories, seen items and edges only the rows of people who did something are put together
anew. `tests/serving/test_law.py` holds it to `State.build` on the whole log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, offsets_of, positions
from recsys_cli.data.state import HISTORY_LENGTH, TIE_HALF_LIFE, TREND_HALF_LIFE, State


@dataclass(frozen=True)
class EdgeChange:
    """Edges that came or went after the state that is brought forward, as they are now."""

    user: np.ndarray
    """int32[n]"""
    author: np.ndarray
    """int32[n]"""
    on: np.ndarray
    """bool[n]"""


NO_CHANGE = EdgeChange(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, bool))


def bring_forward(
    base: State,
    rows: Log,
    now: int,
    catalogue: Catalogue,
    author_items: Ragged,
    follows: EdgeChange = NO_CHANGE,
    blocks: EdgeChange = NO_CHANGE,
) -> State:
    """The state at `now` (µs), no earlier than `base.now`.

    base: from other rows than `rows`, which may be older than `base.now` where they came late. rows: ordered by time;
    those from `now` on are left out. catalogue: that of the base, with users, items and authors at the end.
    author_items: as `newest_by_author` gives at `now`. follows, blocks: edges beside those that actions of the rows
    make.
    """
    base = widened(base, catalogue)
    rows = rows.window(end=now)
    positive = np.flatnonzero(rows.positive)
    user, item, time = rows.user[positive], rows.item[positive], rows.time[positive]
    history = _histories(base, rows, positive)
    followed = _edges(base.follows, catalogue, rows, ("follow",), follows)
    blocked = _edges(base.blocked, catalogue, rows, ("block", "mute"), blocks)
    trend = np.bincount(item, weights=np.exp2(-(now - time) / TREND_HALF_LIFE), minlength=catalogue.n_items)
    followers = base.author_followers
    if followed is not base.follows:
        followers = np.bincount(followed.values, minlength=catalogue.n_authors).astype(np.int32)
    ties, tie_strength = _ties(base, user, catalogue.item_author[item], time, now)
    return replace(
        base,
        now=now,
        catalogue=catalogue,
        seen=_united(base.seen, rows.user, rows.item),
        follows=followed,
        blocked=blocked,
        ties=ties,
        tie_strength=tie_strength,
        author_items=author_items,
        interactions=base.interactions + np.bincount(item, minlength=catalogue.n_items).astype(np.int32),
        impressions=base.impressions + np.bincount(rows.item, minlength=catalogue.n_items).astype(np.int32),
        trending=(base.trending * 2.0 ** (-(now - base.now) / TREND_HALF_LIFE) + trend).astype(base.trending.dtype),
        author_followers=followers,
        **history,
    )


def widened(state: State, catalogue: Catalogue) -> State:
    """The state with empty rows for the users, items and authors that a catalogue has beyond its own."""
    users = catalogue.n_users - len(state.seen)
    items = catalogue.n_items - len(state.interactions)
    authors = catalogue.n_authors - len(state.author_followers)
    changed: dict = {"catalogue": catalogue}
    if users:
        names = ("history", "history_time", "history_actions", "seen", "follows", "blocked", "ties", "tie_strength")
        for name in names:
            rows = getattr(state, name)
            if rows is not None:
                changed[name] = Ragged(np.append(rows.offsets, np.full(users, rows.offsets[-1])), rows.values)
    if items:
        for name in ("interactions", "impressions", "trending"):
            values = getattr(state, name)
            changed[name] = np.append(values, np.zeros(items, values.dtype))
    if authors:
        changed["author_followers"] = np.append(state.author_followers, np.zeros(authors, np.int32))
    return replace(state, **changed)


def replaced_rows(rows: Ragged, users: np.ndarray, new: Ragged) -> Ragged:
    """The rows with those of `users` (ascending) put in place of their own."""
    counts = rows.lengths
    counts[users] = new.lengths
    offsets = offsets_of(counts)
    # what lies between two of them is copied as it stands, and that is nearly everything
    starts = np.append(0, rows.offsets[users + 1]).tolist()
    ends = np.append(rows.offsets[users], len(rows.values)).tolist()
    cuts = new.offsets.tolist()
    parts = [rows.values[starts[0] : ends[0]]]
    for k in range(len(users)):
        parts.append(new.values[cuts[k] : cuts[k + 1]])
        parts.append(rows.values[starts[k + 1] : ends[k + 1]])
    return Ragged(offsets, np.concatenate(parts).astype(rows.values.dtype, copy=False))


def _histories(base: State, rows: Log, positive: np.ndarray) -> dict:
    """The histories with what was interacted with since: the latest HISTORY_LENGTH by time, then as they came."""
    if not len(positive):
        return {}
    user = rows.user[positive]
    touched = np.unique(user)
    place, held = positions(base.history.offsets[touched], base.history.lengths[touched])
    who = np.concatenate([place, np.searchsorted(touched, user)])
    time = np.concatenate([base.history_time.values[held], rows.time[positive]])
    order = np.lexsort((time, who))
    count = np.bincount(who, minlength=len(touched))
    kept = np.minimum(count, HISTORY_LENGTH)
    _, last = positions(np.cumsum(count) - kept, kept)
    order, offsets = order[last], offsets_of(kept)

    def put(old: Ragged, new: np.ndarray) -> Ragged:
        return replaced_rows(old, touched, Ragged(offsets, np.concatenate([old.values[held], new])[order]))

    out = {
        "history": put(base.history, rows.item[positive]),
        "history_time": put(base.history_time, rows.time[positive]),
    }
    if base.history_actions is not None:
        out["history_actions"] = put(base.history_actions, rows.action_bits[positive])
    numbers = {"dwell_seconds": rows.dwell, **rows.context}
    unknown = np.full(len(rows), np.nan, np.float32)
    out["history_numbers"] = {}
    for name, values in base.history_numbers.items():
        new = unknown if numbers.get(name) is None else numbers[name]
        out["history_numbers"][name] = put(Ragged(base.history.offsets, values), new[positive]).values
    return out


def _united(rows: Ragged, user: np.ndarray, value: np.ndarray) -> Ragged:
    """Rows of ascending values, each once, with further values. user, value: [n], -1 is left out."""
    keep = (user >= 0) & (value >= 0)
    if not keep.any():
        return rows
    user, value = user[keep], value[keep]
    touched = np.unique(user)
    place, held = rows.take(touched)
    who = np.concatenate([place, np.searchsorted(touched, user)])
    both = Ragged.group(who, np.concatenate([held, value.astype(rows.values.dtype)]), len(touched)).sorted_rows()
    return replaced_rows(rows, touched, both)


def _edges(old: Ragged, catalogue: Catalogue, rows: Log, actions: tuple[str, ...], change: EdgeChange) -> Ragged:
    users, authors = [change.user[change.on]], [change.author[change.on]]
    for action in actions:
        if action in rows.actions:
            at = np.flatnonzero(rows.actions[action])
            users.append(rows.user[at])
            authors.append(catalogue.item_author[rows.item[at]])
    out = _united(old, np.concatenate(users), np.concatenate(authors))
    gone = ~change.on
    if not gone.any():
        return out
    width = np.int64(max(catalogue.n_authors, 1))
    lost = change.user[gone].astype(np.int64) * width + change.author[gone]
    keep = ~np.isin(out.rows.astype(np.int64) * width + out.values, lost)
    return Ragged(offsets_of(np.bincount(out.rows[keep], minlength=len(out))), out.values[keep])


def _ties(base: State, user: np.ndarray, author: np.ndarray, time: np.ndarray, now: int) -> tuple[Ragged, Ragged]:
    """Ties with what was interacted with since; all strengths fade alike."""
    faded = base.tie_strength.values * 2.0 ** (-(now - base.now) / TIE_HALF_LIFE)
    keep = author >= 0
    user, author = user[keep], author[keep]
    dtype = base.tie_strength.values.dtype
    if not len(user):
        return base.ties, Ragged(base.tie_strength.offsets, faded.astype(dtype))
    added = np.exp2(-(now - time[keep]) / TIE_HALF_LIFE)
    touched = np.unique(user)
    place, held = base.ties.take(touched)
    at = positions(base.ties.offsets[touched], base.ties.lengths[touched])[1]
    width = np.int64(len(base.author_followers) + 1)
    key = np.concatenate([place, np.searchsorted(touched, user)]) * width + np.concatenate([held, author])
    unique, which = np.unique(key, return_inverse=True)
    strength = np.bincount(which, weights=np.concatenate([faded[at], added]), minlength=len(unique))
    offsets = offsets_of(np.bincount(unique // width, minlength=len(touched)))
    names = replaced_rows(base.ties, touched, Ragged(offsets, (unique % width).astype(np.int32)))
    before = Ragged(base.tie_strength.offsets, faded.astype(dtype))
    return names, replaced_rows(before, touched, Ragged(offsets, strength.astype(dtype)))
