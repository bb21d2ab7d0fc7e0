"""In-network and social proof against figures worked by hand."""

import numpy as np
import pytest
from planted import DAY, NOW, edges, make_catalogue, make_log, make_window

from recsys_cli.data.state import TIE_HALF_LIFE
from recsys_cli.retrieval.graph.in_network import InNetwork, InNetworkConfig
from recsys_cli.retrieval.graph.social_proof import SocialProof, SocialProofConfig
from recsys_cli.retrieval.reason import Reason

ALICE, BOB, CAROL, DAVE = range(4)


@pytest.fixture
def village():
    """Alice follows Bob and Carol and clicked Bob's item 0 one tie half-life ago; Dave is a stranger."""
    created = [NOW - 20 * DAY, NOW - 1 * DAY, NOW - 2 * DAY, NOW - 1 * DAY, NOW + 1, NOW - 3 * DAY]
    catalogue = make_catalogue(4, [BOB, BOB, CAROL, DAVE, CAROL, ALICE], created)
    log = make_log([
        (ALICE, 0, NOW - TIE_HALF_LIFE), (BOB, 3, NOW - 1 * DAY), (CAROL, 3, NOW - 2 * DAY), (CAROL, 5, NOW - 1 * DAY),
        (DAVE, 2, NOW - 1 * DAY),
    ])
    return make_window(catalogue, log, follows=edges([(ALICE, BOB), (ALICE, CAROL)]))


def test_in_network_multiplies_recency_by_tie(village):
    source = InNetwork(InNetworkConfig(half_life_days=2.0, tie_weight=3.0, exclude_seen=False))
    items, scores = source.retrieve(village.state, np.array([ALICE]), 5)
    # Bob's tie is half an interaction: 1 + 3 × 0.5; item 4 is not published yet, items of Dave are not followed
    assert items.tolist() == [[1, 2, 0, -1, -1]]
    np.testing.assert_allclose(scores[0, :3], [2**-0.5 * 2.5, 2**-1.0, 2**-10.0 * 2.5], rtol=1e-6)
    assert np.isneginf(scores[0, 3:]).all()


def test_in_network_leaves_out_what_was_seen_or_is_too_old(village):
    unseen = InNetwork(InNetworkConfig()).retrieve(village.state, np.array([ALICE]), 5)[0]
    assert 0 not in unseen
    fresh = InNetwork(InNetworkConfig(max_age_days=1.5, exclude_seen=False))
    assert fresh.retrieve(village.state, np.array([ALICE]), 5)[0].tolist() == [[1, -1, -1, -1, -1]]


def test_in_network_looks_at_the_newest_items_of_each_author(village):
    source = InNetwork(InNetworkConfig(per_author=1, exclude_seen=False))
    assert set(source.retrieve(village.state, np.array([ALICE]), 5)[0][0]) == {1, 2, -1}


def test_in_network_explains_by_the_author(village):
    assert InNetwork(InNetworkConfig()).explain(village.state, ALICE, np.array([1, 2])) == [
        Reason("follow", BOB), Reason("follow", CAROL),
    ]


def test_social_proof_adds_up_friends_by_tie_and_recency(village):
    source = SocialProof(SocialProofConfig(half_life_days=1.0, tie_weight=2.0))
    items, scores = source.retrieve(village.state, np.array([ALICE]), 3)
    # item 3: Bob yesterday with tie 0.5, Carol two days ago; item 5: Carol yesterday
    assert items.tolist() == [[3, 5, -1]]
    np.testing.assert_allclose(scores[0, :2], [0.5 * (1 + 2 * 0.5) + 0.25, 0.5], rtol=1e-6)


def test_social_proof_names_the_friend_who_counts_most(village):
    source = SocialProof(SocialProofConfig())
    assert source.explain(village.state, ALICE, np.array([3, 5, 1])) == [
        Reason("friend", BOB), Reason("friend", CAROL), Reason("taste"),
    ]


def test_social_proof_can_ask_for_several_friends(village):
    source = SocialProof(SocialProofConfig(min_friends=2))
    assert source.retrieve(village.state, np.array([ALICE, BOB]), 2)[0].tolist() == [[3, -1], [-1, -1]]


def test_sources_say_what_the_data_lacks(village):
    strangers = make_window(village.catalogue, village.log)
    assert InNetwork(InNetworkConfig()).missing(strangers) == "needs follows"
    assert SocialProof(SocialProofConfig()).missing(strangers) == "needs follows"
    authorless = make_catalogue(2, [-1, -1], author_user=np.full(2, -1, np.int32))
    nobody = make_window(authorless, make_log([(0, 0, NOW - DAY)]))
    assert InNetwork(InNetworkConfig()).missing(nobody) == "needs items with authors"
    assert SocialProof(SocialProofConfig()).missing(nobody) == "needs authors who are users"
    assert InNetwork(InNetworkConfig()).missing(village) is None
    assert SocialProof(SocialProofConfig()).missing(village) is None
