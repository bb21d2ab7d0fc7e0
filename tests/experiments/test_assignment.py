"""Assignment of users to arms: stable, uniform, independent between experiments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from recsys_cli.experiments.assignment import OUTSIDE, assign, buckets

USERS = np.arange(1, 20_001)


def test_the_same_user_falls_into_the_same_bucket_forever():
    assert np.round(buckets([1, 2, 712], "diversity"), 12).tolist() == [0.469377048197, 0.967318512718, 0.939284521502]
    assert np.round(buckets(["ada", "Zoë", ""], "diversity", "s1"), 12).tolist() == [
        0.382608685227,
        0.870944171425,
        0.015491248315,
    ]


def test_integer_and_text_of_an_id_are_the_same_user():
    assert np.array_equal(buckets([7, 12], "e"), buckets(["7", "12"], "e"))
    assert np.array_equal(buckets(np.array([7, 12], np.int32), "e"), buckets(np.array(["7", "12"], object), "e"))


def test_a_user_alone_gets_what_it_gets_among_others():
    together = buckets(USERS[:100], "e")
    assert [buckets([u], "e")[0] for u in USERS[:100]] == together.tolist()


@pytest.mark.parametrize("ids", [USERS, [f"user-{i}" for i in range(20_000)]])
def test_buckets_are_uniform(ids):
    counts = np.histogram(buckets(ids, "uniformity"), bins=100, range=(0, 1))[0]
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    "other", [{"experiment": "b"}, {"experiment": "a", "salt": "x"}, {"experiment": "a", "purpose": "traffic"}]
)
def test_experiments_salts_and_purposes_are_independent(other):
    first, second = buckets(USERS, "a"), buckets(USERS, **other)
    table = np.histogram2d(first, second, bins=5)[0]
    assert chi2_contingency(table).pvalue > 0.001
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_shares_are_met_and_in_any_unit():
    arm = assign(USERS, "shares", (9, 1))
    assert chisquare(np.bincount(arm), [18_000, 2_000]).pvalue > 0.001
    assert np.array_equal(arm, assign(USERS, "shares", (0.9, 0.1)))
    assert len(np.unique(assign(USERS, "three", (1, 1, 1)))) == 3


def test_widening_the_traffic_moves_nobody_between_arms():
    narrow, wide = (assign(USERS, "traffic", (1, 1), traffic=t) for t in (0.2, 0.6))
    inside = narrow != OUTSIDE
    assert 0.17 < inside.mean() < 0.23
    assert np.array_equal(narrow[inside], wide[inside])
    assert (wide != OUTSIDE).mean() == pytest.approx(0.6, abs=0.02)
