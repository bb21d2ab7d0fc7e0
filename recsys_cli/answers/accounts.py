"""Accounts to follow for a user, with what speaks for each in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import AnswerData, six_digits
from recsys_cli.errors import DataError, UnknownIdError
from recsys_cli.retrieval.graph.accounts import EVIDENCE, AccountModel

if TYPE_CHECKING:
    from recsys_cli.data.state import State

NAMED = 2
"""Accounts named in a reason at most; further ones are counted."""


@dataclass(frozen=True)
class Account:
    """One account to follow."""

    rank: int
    author_id: int | str
    score: float
    """log-odds, but for a constant"""
    followers: int
    evidence: dict[str, float]
    """what speaks for it → its part of the score"""
    reason: str


@dataclass(frozen=True)
class Accounts:
    """Accounts for one user."""

    user_id: int | str
    run_id: str | None
    path: str
    """what the answer stands on: "follows", or "most followed" for somebody who follows nobody and did nothing"""
    accounts: list[Account]

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def recommend_users(data: AnswerData, user_id: int | str, n: int, seed: int) -> Accounts:
    """The n accounts that a user is likeliest to take up, none of them followed, blocked or their own.

    Raises UnknownIdError for a user that the run does not know, and DataError where nobody follows anybody.
    """
    bundle, state = data.bundle, data.state
    user = bundle.user_ids.position(user_id)
    if user < 0:
        raise UnknownIdError(f"user {user_id!r} is not in the run", f"it knows {len(bundle.user_ids):,} users")
    if not len(state.follows.values):
        raise DataError("nobody follows anybody in this data", "accounts to follow need a table of follows")
    model = AccountModel.fit(state, seed)
    users = np.array([user], np.int32)
    blocked = np.zeros((1, state.catalogue.n_authors), bool)
    blocked[0, state.blocked[user]] = True
    found, scores = model.best(users, min(n, state.catalogue.n_authors), blocked)
    found, scores = found[0][found[0] >= 0], scores[0][found[0] >= 0]
    parts = model.weights[:, None] * model.graph.evidence(users)[:, 0, found]
    ids = bundle.author_ids.external(found)
    listed = [
        Account(
            rank=i + 1,
            author_id=ids[i],
            score=six_digits(scores[i]),
            followers=int(state.author_followers[account]),
            evidence={name: six_digits(parts[e, i]) for e, name in enumerate(EVIDENCE) if parts[e, i]},
            reason=_reason(data, state, user, int(account), parts[:, i]),
        )
        for i, account in enumerate(found.tolist())
    ]
    known = len(state.follows[user]) or len(state.ties[user])
    return Accounts(
        bundle.user_ids.external([user])[0], data.run, "follows" if known else "most followed", listed
    )


def _reason(data: AnswerData, state: State, user: int, account: int, parts: np.ndarray) -> str:
    """What speaks most for an account, but for its being followed by many."""
    part = dict(zip(EVIDENCE, parts.tolist(), strict=True))
    circle = part["circle"] + part["circle_evenly"]
    told = {
        "circle": circle, "alike": part["alike"] + part["shared"], "back": part["follows_back"],
        "ties": part["interactions"], "known_for": part["known_for"],
    }
    best = max(told, key=told.get)
    if told[best] <= 0:
        return f"followed by {int(state.author_followers[account]):,} people"
    if best == "circle":
        return f"followed by {_between(data, state, user, account)}, whom you follow"
    return {
        "alike": "people who follow whom you follow also follow it", "back": "follows you",
        "ties": "you often engage with it", "known_for": "known in a community of yours",
    }[best]


def _between(data: AnswerData, state: State, user: int, account: int) -> str:
    """Who of those that a user follows follows an account."""
    mine = state.follows[user]
    people = state.catalogue.author_user[mine]
    known = mine[people >= 0]
    people = people[people >= 0]
    through = known[state.follows.contains(people, np.full((len(people), 1), account))[:, 0]]
    names = [str(i) for i in data.bundle.author_ids.external(through[:NAMED])]
    more = len(through) - len(names)
    return " and ".join(names) if not more else f"{', '.join(names)} and {more} more"
