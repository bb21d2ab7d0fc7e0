"""Users as they are a moment after the run was trained: what they did since, laid over what the run knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.catalogue import Columns
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.pipeline.guest import SPACING

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.features.context import Context
    from recsys_cli.features.parts import FeatureParts
    from recsys_cli.features.snapshot import ServedFeatures


@dataclass(frozen=True)
class Since:
    """What somebody did since the run was trained."""

    history: tuple[int, ...] = ()
    """items they engaged with, oldest first"""
    seen: tuple[int, ...] = ()
    """items they were shown"""
    follows: tuple[int, ...] = ()
    """authors"""
    blocked: tuple[int, ...] = ()
    """authors blocked or muted"""
    unfollowed: tuple[int, ...] = ()
    """authors followed no longer"""
    unblocked: tuple[int, ...] = ()
    """authors neither blocked nor muted any longer"""

    def __bool__(self) -> bool:
        return any((self.history, self.seen, self.follows, self.blocked, self.unfollowed, self.unblocked))


def with_since(
    state: State, snapshot: ServedFeatures, users: np.ndarray, since: Sequence[Since | None]
) -> tuple[State, ServedFeatures, np.ndarray]:
    """State and features that know what some users did since, and the positions under which they know the users.

    users: int32[B], -1 for somebody whom the run does not know and who is known by what they did alone. Those with
    nothing new stay as they are; the others become further users at the end, with what the run knows of them and what
    is new. Counts of items stay as they are.
    """
    users = np.asarray(users, np.int32)
    rows, new = [i for i, s in enumerate(since) if s], [s for s in since if s]
    if not rows:
        return state, snapshot, users
    base = users[rows]
    people = state.catalogue.n_users
    positions = users.copy()
    positions[rows] = people + np.arange(len(rows))
    return _state(state, base, new), SinceSnapshot(snapshot, people, base), positions


def _state(state: State, base: np.ndarray, new: list[Since]) -> State:
    catalogue, n = state.catalogue, len(base)

    def copied(values: np.ndarray, unknown: float) -> np.ndarray:
        return np.append(values, np.where(base >= 0, values[np.maximum(base, 0)], unknown).astype(values.dtype))

    history = [np.array(s.history, np.int32) for s in new]
    times = [state.now - np.arange(len(h), 0, -1) * SPACING for h in history]
    follows = [np.array(s.follows, np.int32) for s in new]
    catalogue = replace(
        catalogue,
        n_users=catalogue.n_users + n,
        user_created=copied(catalogue.user_created, 0),
        user_codes={name: copied(codes, -1) for name, codes in catalogue.user_codes.items()},
        user_numbers={name: copied(values, np.nan) for name, values in catalogue.user_numbers.items()},
        user_columns=catalogue.user_columns.append(Columns(), n),
    )
    ties, strength = _ties(state, base, history)
    numbers = {
        name: np.concatenate([values, *_beside(state.history, values, base, history)])
        for name, values in state.history_numbers.items()
    }
    actions = state.history_actions
    return replace(
        state,
        catalogue=catalogue,
        history=_rows(state.history, base, history),
        history_time=_rows(state.history_time, base, times),
        history_actions=None if actions is None else _rows(actions, base, [h * 0 for h in history]),
        history_numbers=numbers,
        seen=_rows(state.seen, base, [np.array([*s.seen, *s.history], np.int32) for s in new], ascending=True),
        follows=_rows(state.follows, base, follows, ascending=True, gone=[s.unfollowed for s in new]),
        blocked=_rows(
            state.blocked, base, [np.array(s.blocked, np.int32) for s in new], ascending=True,
            gone=[s.unblocked for s in new],
        ),
        ties=ties,
        tie_strength=strength,
    )


def _beside(rows: Ragged, values: np.ndarray, base: np.ndarray, added: list[np.ndarray]) -> list[np.ndarray]:
    """Numbers beside the histories of the further users: those of the run, and unknown for what is new."""
    out = []
    for user, more in zip(base, added, strict=True):
        held = values[rows.offsets[user] : rows.offsets[user + 1]] if user >= 0 else values[:0]
        out += [held, np.full(len(more), np.nan, values.dtype)]
    return out


def _rows(
    rows: Ragged, base: np.ndarray, added: list[np.ndarray], *, ascending: bool = False,
    gone: Sequence[tuple[int, ...]] | None = None,
) -> Ragged:
    """The rows and further ones: row `base[i]` (none where -1) without `gone[i]`, and then `added[i]`."""
    more = []
    for at, (user, values) in enumerate(zip(base, added, strict=True)):
        held = rows[user] if user >= 0 else rows.values[:0]
        if gone is not None and gone[at]:
            held = held[~np.isin(held, gone[at])]
        row = np.concatenate([held, values.astype(rows.values.dtype)])
        more.append(np.unique(row) if ascending else row)
    return rows.append(Ragged(offsets_of(np.array([len(r) for r in more])), np.concatenate(more)))


def _ties(state: State, base: np.ndarray, history: list[np.ndarray]) -> tuple[Ragged, Ragged]:
    authors, weights = [], []
    for user, items in zip(base, history, strict=True):
        held = state.ties[user] if user >= 0 else state.ties.values[:0]
        strong = state.tie_strength[user] if user >= 0 else state.tie_strength.values[:0]
        new = state.catalogue.item_author[items]
        new = new[new >= 0]
        who, at = np.unique(np.concatenate([held, new]), return_inverse=True)
        authors.append(who)
        weights.append(np.bincount(at, np.concatenate([strong, np.ones(len(new))]), minlength=len(who)))
    offsets = offsets_of(np.array([len(a) for a in authors]))
    ties = Ragged(offsets, np.concatenate(authors).astype(state.ties.values.dtype))
    strength = Ragged(offsets, np.concatenate(weights).astype(state.tie_strength.values.dtype))
    return state.ties.append(ties), state.tie_strength.append(strength)


@dataclass(frozen=True)
class SinceSnapshot:
    """Features of users at positions that `with_since` gave: those of the user whom the run knows."""

    inner: ServedFeatures
    n_users: int
    base: np.ndarray
    """int32: position of each further user in the run, -1 unknown"""

    def features(
        self, users: np.ndarray, items: np.ndarray, context: Context,
        similarities: dict[str, np.ndarray] | None = None, columns: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """As `Snapshot.features`."""
        return self.inner.features(self._known(users), items, context, similarities, columns)

    def parts(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray],
        columns: tuple[str, ...],
    ) -> FeatureParts:
        """As `Snapshot.parts`."""
        return self.inner.parts(self._known(users), items, context, similarities, columns)

    def _known(self, users: np.ndarray) -> np.ndarray:
        users = np.asarray(users)
        further = users >= self.n_users
        return np.where(further, self.base[np.where(further, users - self.n_users, 0)], users).astype(np.int32)
