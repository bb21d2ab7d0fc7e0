"""Marks of people who asked to be forgotten: what stays of them, so that a replay of the log forgets them too."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.state import State
from recsys_cli.data.vocabulary import Vocabulary


def mark(user_id: str) -> str:
    """32 hexadecimal digits that stand for an id and from which it is not read."""
    return blake2b(user_id.encode(), digest_size=16, person=b"recsys-forgotten"[:16]).hexdigest()


def marked_users(user_ids: Vocabulary, marks: Collection[str]) -> np.ndarray:
    """int32 positions of the users whom some marks stand for."""
    ids = user_ids.external(np.arange(len(user_ids)))
    return np.array([at for at, name in enumerate(ids) if mark(str(name)) in marks], np.int32)


def emptied(state: State, users: np.ndarray) -> State:
    """The state with empty rows of some users (int32 positions); what others' items gained through them stays."""
    beside = {name: Ragged(state.history.offsets, values) for name, values in state.history_numbers.items()}
    names = ("history", "history_time", "history_actions", "seen", "follows", "blocked", "ties", "tie_strength")
    rows = {name: held for name in names if (held := getattr(state, name)) is not None}
    return replace(
        state,
        **{name: _without(held, users) for name, held in rows.items()},
        history_numbers={name: _without(held, users).values for name, held in beside.items()},
    )


def _without(rows: Ragged, users: np.ndarray) -> Ragged:
    kept = np.ones(len(rows), bool)
    kept[users] = False
    return Ragged(offsets_of(np.where(kept, rows.lengths, 0)), rows.values[np.repeat(kept, rows.lengths)])
