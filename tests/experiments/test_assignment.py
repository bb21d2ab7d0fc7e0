"""Assignment of users to arms: stable, uniform, independent between experiments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2_contingency, chisquare

from recsys_cli.errors import DataError
from recsys_cli.experiments.assignment import OUTSIDE, assign, assign_units, buckets
from recsys_cli.experiments.config import ExperimentConfig

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


MILLION = np.arange(1_000_000)


def of(**more) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"name": "e"} | more)


def test_a_million_users_are_dealt_evenly_and_independently_of_other_layers_and_experiments():
    setting = of(variants={"a": {}, "b": {}, "c": {}}, layer={"name": "one"})
    arm = assign_units(setting, MILLION)
    assert chisquare(np.bincount(arm)).pvalue > 0.001
    other = assign_units(of(name="f", variants={"a": {}, "b": {}, "c": {}}, layer={"name": "two"}), MILLION)
    assert chi2_contingency(np.histogram2d(arm, other, bins=3)[0]).pvalue > 0.001
    half, rest = (
        assign_units(of(name=name, layer={"name": "one", "start": start, "end": start + 0.5}), MILLION)
        for name, start in (("g", 0), ("h", 0.5))
    )
    assert not ((half != OUTSIDE) & (rest != OUTSIDE)).any() and ((half != OUTSIDE) | (rest != OUTSIDE)).all()
    assert chisquare(np.bincount(half[half != OUTSIDE])).pvalue > 0.001


def test_ramping_up_adds_users_and_moves_nobody():
    setting = of(ramp={2: 0.1, 4: 0.6}, traffic=0.5)
    days = [assign_units(setting, USERS, day=day) for day in (1, 2, 3, 4, 9)]
    assert (days[0] == OUTSIDE).all() and np.array_equal(days[1], days[2]) and np.array_equal(days[3], days[4])
    inside = days[1] != OUTSIDE
    assert inside.mean() == pytest.approx(0.05, abs=0.01)
    assert (days[3] != OUTSIDE).mean() == pytest.approx(0.3, abs=0.02)
    assert np.array_equal(days[1][inside], days[3][inside])
    assert np.array_equal(assign_units(setting, USERS), days[4])


def test_holdout_targeting_and_clusters_decide_who_takes_part():
    held = [assign_units(of(name=n, holdout=0.1), USERS) == OUTSIDE for n in "ab"]
    assert np.array_equal(*held) and held[0].mean() == pytest.approx(0.1, abs=0.01)
    country = np.where(USERS % 3 == 0, "de", "fr")
    setting = of(targeting={"country": ["de"]})
    assert np.array_equal(assign_units(setting, USERS, attributes={"country": country}) != OUTSIDE, country == "de")
    with pytest.raises(DataError, match="by 'country', which is not known") as error:
        assign_units(setting, USERS, attributes={"contry": country})
    assert "contry" in error.value.hint
    clusters = USERS // 10
    arm = assign_units(of(unit="cluster"), USERS, clusters=clusters)
    assert all(len(set(arm[clusters == c])) == 1 for c in range(50)) and 0.4 < arm.mean() < 0.6
    with pytest.raises(DataError, match="assigns clusters"):
        assign_units(of(unit="cluster"), USERS)


def test_arrow_arrays_are_read_as_they_are():
    ids = [f"user-{i}" for i in range(50)]
    assert np.array_equal(buckets(pa.array(ids), "e"), buckets(ids, "e"))
    assert np.array_equal(buckets(pa.chunked_array([ids[:20], ids[20:]]), "e"), buckets(ids, "e"))
