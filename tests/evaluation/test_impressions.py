"""Figures on logged impressions: which rows are looked at, and dwell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from recsys_cli.data.log import Log
from recsys_cli.evaluation.impressions import _view, exact_repeats, oracle_share, spearman, views


def make_log(rows, surface=None) -> Log:
    """rows: (user, item, time, click, dwell)."""
    user, item, time, click, dwell = (np.array(c) for c in zip(*rows, strict=True))
    return Log(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        time=time.astype(np.int64),
        actions={"click": click.astype(bool)},
        positive_actions=("click",),
        negative_actions=(),
        dwell=dwell.astype(np.float32),
        surface=None if surface is None else np.array(surface, np.int16),
    )


ROWS = [
    (1, 5, 10, 1, 2.0),
    (1, 5, 10, 1, 2.0),
    (1, 5, 10, 0, 2.0),
    (1, 5, 11, 1, 2.0),
    (2, 5, 10, 1, np.nan),
    (2, 5, 10, 1, np.nan),
]


def test_a_repeat_is_equal_in_every_column_and_later():
    assert exact_repeats(make_log(ROWS)).tolist() == [False, True, False, False, False, True]
    assert not exact_repeats(make_log(ROWS, surface=[0, 1, 0, 0, 0, 1])).any()


def test_views_are_made_only_where_they_differ_from_all():
    plain = make_log([ROWS[0], ROWS[3]], surface=[0, 0])
    assert [name for name, _ in views(plain, ["home", "search"])] == ["all"]
    several = make_log(ROWS, surface=[0, 0, 1, 1, 1, 1])
    found = dict(views(several, ["home", "search"]))
    assert list(found) == ["all", "without exact repeats", "surface search"]
    assert found["surface search"].tolist() == [False, False, True, True, True, True]
    assert (~found["without exact repeats"]).sum() == 2


@pytest.mark.parametrize("seed", range(3))
def test_spearman_agrees_with_scipy_ties_included(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 60).astype(float), rng.normal(size=60)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(spearman(a, np.ones(60)))


def test_dwell_is_measured_on_rows_that_have_it():
    log = make_log(ROWS)
    predicted = {"click": np.linspace(0.1, 0.9, 6), "dwell": np.array([1, 2, 3, 4, 100, 100.0])}
    view = _view(log, np.ones(6, bool), predicted, 50, 0)
    assert view["dwell"]["rows"] == 4 and view["dwell"]["mae"] == pytest.approx(1.0)
    assert view["dwell"]["mae_of_median"] == 0.0
    row = view["actions"][0]
    assert row["positives"] == 5 and row["rate"] == pytest.approx(5 / 6)
    assert row["roc_auc"]["value"] == pytest.approx(3 / 5)


def test_the_share_of_the_oracle_by_hand():
    # pairs of a click and none: 2 × 2; the ranker has three of them right, the truth all
    log = make_log([(1, 1, 1, 1, 1.0), (1, 2, 2, 0, 2.0), (2, 3, 3, 1, 3.0), (2, 4, 4, 0, 4.0)])
    predicted = {"click": np.array([0.9, 0.5, 0.4, 0.1]), "dwell": np.array([4, 3, 2, 1.0])}
    truth = {"click": np.array([0.8, 0.2, 0.7, 0.3]), "dwell": np.array([1, 2, 4, 3.0])}
    view = _view(log, np.ones(4, bool), predicted, 50, 0, None, truth)
    row = view["actions"][0]
    assert row["roc_auc"]["value"] == 0.75 and row["oracle_roc_auc"] == 1.0 and row["oracle_share"] == 0.5
    assert view["dwell"]["spearman"] == -1 and view["dwell"]["oracle_spearman"] == pytest.approx(0.8)
    without = _view(log, np.ones(4, bool), predicted, 50, 0)
    assert without["actions"][0]["oracle_roc_auc"] is None and without["actions"][0]["oracle_share"] is None
    assert without["dwell"]["oracle_spearman"] is None
    assert oracle_share(0.8, 0.9) == pytest.approx(0.75) and np.isnan(oracle_share(0.8, 0.5))
