"""Candidates that were never shown: which are drawn, and what may learn from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ranking_tables import make_table

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.schema import DAY
from recsys_cli.features.table import RELEVANCE, with_relevance
from recsys_cli.ranking.config import SharedBottomConfig
from recsys_cli.ranking.losses import weighted_bce
from recsys_cli.ranking.negatives import candidate_negatives
from recsys_cli.ranking.trainer import fit_heavy

SMALL = SharedBottomConfig(hidden=[32, 16], epochs=4, min_steps=0, batch_size=256, learning_rate=5e-3)


class EveryItem:
    """Proposes all items published by the state's moment."""

    def __init__(self, created):
        self.created = created

    def retrieve(self, state, users, k):
        items = np.flatnonzero(self.created <= state).astype(np.int32)[:k]
        return np.tile(items, (len(users), 1)), np.zeros((len(users), len(items)), np.float32)


def make_log(n=300, users=5, items=40):
    rng = np.random.default_rng(1)
    return Log(
        user=rng.integers(0, users, n).astype(np.int32), item=rng.integers(0, items // 4, n).astype(np.int32),
        time=np.sort(rng.integers(10 * DAY, 14 * DAY, n)), actions={"click": rng.random(n) < 0.3},
        positive_actions=("click",), negative_actions=(), dwell=np.ones(n, np.float32),
    )


def test_negatives_are_never_shown_nor_published_later_and_carry_no_action():
    log = make_log()
    created = np.linspace(13.5 * DAY, 8 * DAY, 40).astype(np.int64)
    shown = Ragged.group(log.user, log.item, 5).sorted_rows()
    drawn = candidate_negatives(log, {"all": EveryItem(created)}, lambda now: now, 3, 0, shown)
    assert len(drawn) == 3 * log.positive.sum()
    assert not shown.contains(drawn.user, drawn.item).any()
    assert (created[drawn.item] <= drawn.time).all()
    assert created[drawn.item].max() > log.time[0]  # later days propose what was published since
    assert not drawn.positive.any() and np.isnan(drawn.dwell).all()
    assert (np.diff(drawn.time) >= 0).all()
    assert set(np.unique(drawn.time)) == set(np.unique(log.time[log.positive]))


def with_candidates(n, seed):
    shown = make_table(n, seed)
    drawn = make_table(n, seed + 50)
    values = drawn.values.copy()
    values[:, 3] += 4 * values[:, 3].std()  # candidates are told by a number that says nothing of actions
    drawn = replace(drawn, values=values, labels={a: np.zeros(n, bool) for a in drawn.labels})
    return with_relevance(shown, replace(drawn, dwell=np.full(n, np.nan, np.float32)), ("click", "like"))


def test_masked_rows_give_no_gradient_to_the_heads_of_actions():
    logits = torch.zeros(3, 2, requires_grad=True)
    mask = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    weighted_bce(logits, torch.zeros(3, 2), None, mask).sum().backward()
    assert logits.grad[1:, 0].abs().max() == 0
    assert (logits.grad[:, 1] > 0).all() and logits.grad[0, 0] > 0


def test_heads_of_actions_stay_calibrated_on_what_was_shown_and_relevance_tells_candidates():
    train, valid = with_candidates(4000, 0), with_candidates(2000, 1)
    ranker = fit_heavy(SMALL, train, valid, seed=0)
    assert ranker.tasks[-1] == RELEVANCE and ranker.metrics[RELEVANCE]["calibration"] == "none"
    shown = ~valid.candidate
    predicted = ranker.predict(valid.values)
    assert predicted["click"][shown].mean() == pytest.approx(valid.labels["click"][shown].mean(), abs=0.03)
    assert predicted[RELEVANCE][shown].mean() > 3 * predicted[RELEVANCE][~shown].mean()
    # taken as shown and ignored, candidates would halve the rate
    mixed = fit_heavy(SMALL, train.all_known(), valid.all_known(), seed=0).predict(valid.values)
    assert mixed["click"][~shown].mean() < 0.5 * predicted["click"][~shown].mean()


def test_the_logged_part_of_a_table_is_what_it_was_before():
    table = with_candidates(100, 0)
    logged, before = table.logged(), make_table(100, 0)
    order = np.lexsort((before.user, before.time))
    assert np.array_equal(logged.values, before.values[order]) and RELEVANCE not in logged.labels
    assert logged.candidate is None
