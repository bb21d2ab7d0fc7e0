"""Accounts to follow: evidence against plain loops, what must not be proposed, and figures above the simple ways."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.answers.accounts import recommend_users
from recsys_cli.answers.data import AnswerData
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import DataError, UnknownIdError
from recsys_cli.evaluation.accounts import evaluate_accounts
from recsys_cli.retrieval.graph.accounts import EVIDENCE, Graph, hide
from recsys_cli.testing.planted_bundle import planted_bundle


@pytest.fixture(scope="module")
def bundle():
    return planted_bundle()


@pytest.fixture(scope="module")
def state(bundle):
    return bundle.state


def test_evidence_is_what_loops_over_people_count(state):
    graph = Graph.of(state)
    users = np.array([3, 50], np.int32)
    found = dict(zip(EVIDENCE, graph.evidence(users), strict=True))
    follows = {u: set(state.follows[u].tolist()) for u in range(120)}  # users are accounts here
    fans = {z: {u for u in follows if z in follows[u]} for z in range(120)}
    for row, u in enumerate(users.tolist()):
        for z in (0, 17, 61, 119):
            through = [f for f in follows[u] if z in follows[f]]
            assert found["circle_evenly"][row, z] == pytest.approx(np.log1p(len(through)), rel=1e-5)
            weight = sum(1 / np.sqrt(len(follows[f]) * max(len(fans[z]), 1)) for f in through)
            assert found["circle"][row, z] == pytest.approx(weight, rel=1e-5)
            alike = sum(
                1 / np.sqrt(len(fans[f]) * len(fans[z])) / np.sqrt(len(follows[v]))
                for f in follows[u] for v in fans[f] & fans[z]
            ) if fans[z] else 0
            assert found["alike"][row, z] == pytest.approx(alike, rel=1e-4)
            assert found["follows_back"][row, z] == (u in follows[z])
            cosine = len(follows[u] & follows[z]) / np.sqrt(max(len(follows[u]), 1) * max(len(follows[z]), 1))
            assert found["shared"][row, z] == pytest.approx(cosine, rel=1e-5)
            assert found["followers"][row, z] == pytest.approx(np.log1p(len(fans[z])), rel=1e-5)
            assert 0 <= found["known_for"][row, z] <= 1 + 1e-6
    mine = np.flatnonzero(found["interactions"][0])
    assert mine.tolist() == state.ties[3].tolist()


def test_nothing_is_proposed_that_is_followed_blocked_or_ones_own(bundle, state):
    blocked = Ragged.group(np.array([3, 3]), np.array([8, 13], np.int32), 120)
    data = AnswerData(bundle, replace(state, blocked=blocked))
    answer = recommend_users(data, 3, 120, 0)
    ids = [a.author_id for a in answer.accounts]
    assert not {3, 8, 13, *state.follows[3].tolist()} & set(ids)
    assert len(ids) == len(set(ids)) == 120 - len({3, 8, 13, *state.follows[3].tolist()})
    assert [a.score for a in answer.accounts] == sorted((a.score for a in answer.accounts), reverse=True)
    first = answer.accounts[0]
    assert first.author_id % 5 == 3 % 5, "people follow within their community"
    assert sum(first.evidence.values()) == pytest.approx(first.score, rel=1e-3) and first.reason
    assert answer.path == "follows"


def test_reasons_name_who_is_between(bundle, state):
    answer = recommend_users(AnswerData(bundle, state), 3, 20, 0)
    told = [a for a in answer.accounts if a.reason.startswith("followed by ") and " more" not in a.reason]
    told = [a for a in told if a.reason.endswith("whom you follow")]
    for a in told:
        for name in a.reason.removeprefix("followed by ").removesuffix(", whom you follow").split(" and "):
            assert int(name) in state.follows[3] and a.author_id in state.follows[int(name)]
    assert all(a.reason for a in answer.accounts)


def test_somebody_who_follows_nobody_gets_the_most_followed(bundle, state):
    def without(rows, user=7):
        keep = rows.rows != user
        return Ragged.group(rows.rows[keep], rows.values[keep], len(rows))

    ties = without(state.ties)
    strength = state.tie_strength.values[state.ties.rows != 7]
    lonely = replace(
        state, follows=without(state.follows), ties=ties, tie_strength=Ragged(ties.offsets, strength)
    )
    answer = recommend_users(AnswerData(bundle, lonely), 7, 5, 0)
    assert answer.path == "most followed" and len(answer.accounts) == 5
    with pytest.raises(UnknownIdError, match="user 999"):
        recommend_users(AnswerData(bundle, state), 999, 5, 0)
    with pytest.raises(DataError, match="nobody follows"):
        recommend_users(AnswerData(bundle, replace(state, follows=Ragged.empty(120))), 3, 5, 0)


def test_friendships_are_hidden_both_ways_and_follows_one_by_one(state):
    pairs = np.array([(u, v) for u in range(0, 60, 2) for v in (u + 1, (u + 7) % 60)])
    both = np.concatenate([pairs, pairs[:, ::-1]])
    friends = Ragged.group(both[:, 0], both[:, 1].astype(np.int32), 120).sorted_rows()
    kept, (user, account) = hide(friends, Graph.of(state, friends), 0.3, np.random.default_rng(0))
    hidden = set(zip(user.tolist(), account.tolist(), strict=True))
    assert hidden and all((b, a) in hidden for a, b in hidden)
    assert len(kept.values) + len(hidden) == len(friends.values)
    kept, (user, account) = hide(state.follows, Graph.of(state), 0.3, np.random.default_rng(0))
    hidden = set(zip(user.tolist(), account.tolist(), strict=True))
    back = [(a, u) for u, a in hidden if u in state.follows[a]]
    assert any(pair not in hidden for pair in back)
    assert not any(a in kept[u] for u, a in hidden)


def test_the_model_beats_most_followed_and_two_hop_counts_on_planted_communities(state):
    measured = evaluate_accounts(state, seed=1)
    model, popular, two_hop = measured.figures
    assert model.ndcg > two_hop.ndcg > popular.ndcg and popular.low > 0
    assert measured.hidden == pytest.approx(0.2 * len(state.follows.values), rel=0.25)
    assert set(measured.weights) == set(EVIDENCE)
    with pytest.raises(DataError, match="too few follows"):
        evaluate_accounts(replace(state, follows=Ragged.empty(120)))
