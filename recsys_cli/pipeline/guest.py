"""Somebody who is not in the data: a user for one request, known by a short history alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from recsys_cli.data.catalogue import Columns
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.features.context import Context
from recsys_cli.features.parts import FeatureParts
from recsys_cli.features.snapshot import ServedFeatures, unknown_beyond

SPACING = 60_000_000
"""µs between the interactions of a history that comes without times."""


def with_guest(state: State, items: np.ndarray, codes: Mapping[str, int] | None = None) -> State:
    """The state with one more user, at position `catalogue.n_users`, who has interacted with `items`.

    items: int32[m] positions, oldest first; they count as seen, a minute apart, the last a minute ago. codes: attribute
    → code of its value, of those that are known of them. Counts of items and the graph stay as they are.
    """
    codes = codes or {}
    items = np.asarray(items, np.int32)
    catalogue = state.catalogue
    guest = replace(
        catalogue,
        n_users=catalogue.n_users + 1,
        user_created=np.append(catalogue.user_created, 0),
        user_codes={
            name: np.append(held, np.int32(codes.get(name, -1))) for name, held in catalogue.user_codes.items()
        },
        user_numbers={name: np.append(v, np.float32(np.nan)) for name, v in catalogue.user_numbers.items()},
        user_columns=catalogue.user_columns.append(Columns(), 1),
    )
    authors, counts = np.unique(catalogue.item_author[items], return_counts=True)
    authors, counts = authors[authors >= 0], counts[authors >= 0]
    return replace(
        state,
        catalogue=guest,
        history=_with_row(state.history, items),
        history_time=_with_row(state.history_time, state.now - np.arange(len(items), 0, -1) * SPACING),
        history_actions=None if state.history_actions is None else _with_row(state.history_actions, items * 0),
        history_numbers={
            name: np.append(values, np.full(len(items), np.nan, np.float32))
            for name, values in state.history_numbers.items()
        },
        seen=_with_row(state.seen, np.unique(items)),
        follows=_with_row(state.follows, items[:0]),
        blocked=_with_row(state.blocked, items[:0]),
        ties=_with_row(state.ties, authors),
        tie_strength=_with_row(state.tie_strength, counts),
    )


def _with_row(rows: Ragged, values: np.ndarray) -> Ragged:
    offsets = np.append(rows.offsets, rows.offsets[-1] + len(values))
    return Ragged(offsets, np.concatenate([rows.values, values.astype(rows.values.dtype)]))


@dataclass(frozen=True)
class GuestSnapshot:
    """Features for a guest: those of an unknown user, with the similarities that the sources measure."""

    inner: ServedFeatures
    n_users: int
    """users that the snapshot knows; positions from here on are guests"""

    def features(
        self,
        users: np.ndarray,
        items: np.ndarray,
        context: Context,
        similarities: dict[str, np.ndarray] | None = None,
        columns: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """As `Snapshot.features`."""
        known = unknown_beyond(users, self.n_users)
        return self.inner.features(known, items, context, similarities, columns)

    def parts(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray],
        columns: tuple[str, ...],
    ) -> FeatureParts:
        """As `Snapshot.parts`."""
        return self.inner.parts(unknown_beyond(users, self.n_users), items, context, similarities, columns)
