"""What people turned to in the test window: the answers that ranked lists are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from recsys_cli.data.ragged import Ragged

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.data.state import State


@dataclass(frozen=True)
class Truth:
    """Relevant items of the test users."""

    users: np.ndarray
    """int32[U] users with at least one relevant item, ascending"""
    relevant: Ragged
    """int32 items of each of them, ascending, each once"""
    summary: dict[str, int]
    """how the pairs of user and item came about; see `find_truth`"""
    repeated: np.ndarray | None = None
    """bool beside `relevant.values`: the user had interacted with it before; None where no such item is relevant"""

    def take(self, places: np.ndarray) -> Truth:
        """Some of the users; places: int[V] into `users`. The summary counts their relevant items alone."""
        rows, values = self.relevant.take(places)
        summary = self.summary | {"relevant": len(values), "users": len(places)}
        repeated = None
        if self.repeated is not None:
            repeated = Ragged(self.relevant.offsets, self.repeated).take(places)[1]
        return Truth(self.users[places], Ragged.group(rows, values, len(places)), summary, repeated)

    def only(self, chosen: np.ndarray) -> Truth:
        """With some of the relevant items, bool beside `relevant.values`, and the users who have any of them."""
        rows = self.relevant.rows[chosen]
        users, place = np.unique(rows, return_inverse=True)
        relevant = Ragged.group(place, self.relevant.values[chosen], len(users))
        summary = self.summary | {"relevant": int(chosen.sum()), "users": len(users)}
        return Truth(self.users[users], relevant, summary, None if self.repeated is None else self.repeated[chosen])


def find_truth(
    log: Log, state: State, start: int, end: int, count: Literal["reachable", "all"] = "reachable", *,
    never_again: bool = False, repeats: bool = False,
) -> Truth:
    """Distinct items with an interaction in [start, end), unless `repeats` those the user had not interacted with.

    state: as of `start`. The summary counts pairs of user and item: `interactions` distinct ones in the
    window, `repeated` (interacted before; left out unless `repeats`), `not_yet_published` at `start` (left out unless
    `count` is "all"), `seen_before` (shown before without interaction; left out with `never_again`, that is where no
    list may hold what was seen) and `relevant`, what remains; `users_active` and `users`
    count people with an interaction and with a relevant item.
    """
    window = log.window(start, end)
    rows = np.flatnonzero(window.positive)
    width = np.int64(max(state.catalogue.n_items, 1))
    pairs = np.unique(window.user[rows].astype(np.int64) * width + window.item[rows])
    past = log.window(end=start)
    earlier = np.flatnonzero(past.positive)
    known = np.unique(past.user[earlier].astype(np.int64) * width + past.item[earlier])
    repeated = np.isin(pairs, known, assume_unique=True)
    user, item = (pairs // width).astype(np.int32), (pairs % width).astype(np.int32)
    wanted = np.ones(len(pairs), bool) if repeats else ~repeated
    unpublished = wanted & ~state.available[item]
    keep = wanted & (~unpublished if count == "reachable" else True)
    seen = state.seen.contains(user, item) & keep & ~repeated
    if never_again:
        keep &= ~seen
    users, place = np.unique(user[keep], return_inverse=True)
    summary = {
        "users_active": len(np.unique(user)),
        "interactions": len(pairs),
        "repeated": int(repeated.sum()),
        "not_yet_published": int(unpublished.sum()),
        "seen_before": int(seen.sum()),
        "seen_left_out": int(seen.sum()) if never_again else 0,
        "relevant": int(keep.sum()),
        "users": len(users),
    }
    again = repeated[keep] if repeats else None  # pairs are ordered by user, and so are the rows
    return Truth(users, Ragged.group(place, item[keep], len(users)), summary, again)


def sample_users(truth: Truth, users: int | None, seed: int) -> Truth:
    """The truth of so many of its users, drawn with the seed; None takes all."""
    if users is None or users >= len(truth.users):
        return truth
    return truth.take(np.sort(np.random.default_rng(seed).choice(len(truth.users), users, replace=False)))
