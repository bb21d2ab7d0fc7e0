"""LambdaMART orders what a user saw together, and every action's probability follows from its score."""

from dataclasses import replace

import lightgbm
import numpy as np
import pytest

from recsys_cli.errors import DataError
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.attribution import explain_heavy
from recsys_cli.ranking.registry import load_ranker, restore_ranker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees.config import LambdaMartConfig
from recsys_cli.ranking.trees.lambdamart import worth_of
from recsys_cli.testing.ranker_tables import make_table

QUICK = LambdaMartConfig(rounds=40, min_rows_in_leaf=20, patience=10, gains={"click": 1, "like": 2, "hide": 4})


def requests(n, seed=0):
    """Rows of requests of ten items."""
    table = make_table(n, seed)
    request = np.arange(n) // 10
    return replace(table, user=(request % 37).astype(np.int32), time=request * 1_000_000)


@pytest.fixture(scope="module")
def grown():
    return fit_heavy(QUICK, requests(4000), requests(1500, 1), seed=3)


def test_worth_is_the_sum_of_gains_and_never_below_nothing():
    table = requests(500)
    worth = worth_of(QUICK, table, ("click", "like", "hide"))
    plain = 1.0 * table.labels["click"] + 2.0 * table.labels["like"] - 4.0 * table.labels["hide"]
    assert np.array_equal(worth, np.maximum(plain, 0)) and (plain < 0).any()


def test_it_orders_requests_better_than_chance_and_the_graph_says_what_lightgbm_says(grown, tmp_path):
    valid = requests(1000, 2)
    grown.export(tmp_path)
    served = load_ranker(tmp_path)
    assert served.kind == "lambdamart" and served.tasks == ("click", "like", "hide")
    got = served.predict(valid.values)
    score = lightgbm.Booster(model_str=grown.models["score"][0]).predict(valid.values, raw_score=True)
    logits = grown.logits(valid.values)[0]
    for t, task in enumerate(grown.tasks):
        slope, shift = grown.lines[task]
        np.testing.assert_allclose(logits[:, t], slope * score + shift, atol=1e-4)
        np.testing.assert_allclose(got[task], grown.predict(valid.values)[task], atol=1e-6)
    assert grown.lines["click"][0] > 0 > grown.lines["hide"][0]
    assert roc_auc(valid.labels["click"], got["click"]) > 0.7 and roc_auc(valid.labels["like"], got["like"]) > 0.6
    assert got["click"].mean() == pytest.approx(valid.labels["click"].mean(), abs=0.05)
    assert np.corrcoef(np.log1p(got["dwell"]), np.log1p(np.nan_to_num(valid.dwell)))[0, 1] > 0.3
    back = restore_ranker(grown.checkpoint())
    np.testing.assert_array_equal(back.predict(valid.values)["hide"], grown.predict(valid.values)["hide"])
    told = explain_heavy(grown, valid.values[4], "hide")
    assert told.base + told.contributions.sum() == pytest.approx(told.score, abs=1e-6)


def test_where_nothing_was_seen_together_it_is_refused():
    alone = replace(requests(600), time=np.arange(600) * 1_000_000)
    with pytest.raises(DataError, match="nothing can be ordered"):
        fit_heavy(QUICK, alone, alone, seed=0)
