"""Networks with ids and histories see what was known at the moment, each candidate for itself."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.data.behaviour import UNKNOWN_TIME, Behaviour, Entities
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.errors import DataError
from recsys_cli.features.context import Context
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import HeavyStageConfig
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.pipeline.scoring import HeavyRanking
from recsys_cli.ranking.networks.histories import CodeTable
from recsys_cli.ranking.networks.kinds import DcnConfig, DinConfig, NcfConfig, SharedBottomConfig, TransformerConfig
from recsys_cli.ranking.registry import load_ranker
from recsys_cli.ranking.serving.side_inputs import SideSpec
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import ITEMS, SPAN, make_behaviour, make_catalogue, make_log, make_table

SMALL = {
    "hidden": [16], "epochs": 2, "min_steps": 0, "batch_size": 256, "id_buckets": 64, "id_dim": 8,
    "history_dim": 8, "history_length": 6, "learning_rate": 5e-3,
}
LOG, CATALOGUE = make_log(), make_catalogue()


@given(moment=st.integers(0, 3001), length=st.integers(1, 12))
def test_a_log_cut_off_at_a_moment_and_the_state_of_that_moment_tell_the_same(moment, length):
    now = int(LOG.time[moment]) if moment < len(LOG) else SPAN + 1
    users = np.arange(-1, CATALOGUE.n_users)
    asked = Behaviour.of_log(CATALOGUE, LOG).recent(users, np.full(len(users), now), length)
    state = State.build(CATALOGUE, LOG, now)
    kept = Behaviour.of_state(state, LOG.positive_actions).recent(users, np.full(len(users), now), length)
    for a, b in zip(asked, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    past = LOG.window(end=now)
    for user in (0, 7, 199):
        rows = np.flatnonzero((past.user == user) & past.positive)[::-1][:length]
        np.testing.assert_array_equal(asked[0][user + 1][: len(rows)], past.item[rows])
        np.testing.assert_array_equal(asked[2][user + 1][: len(rows)], past.time[rows])
        done = past.actions["click"][rows] + 2 * past.actions["like"][rows]
        np.testing.assert_array_equal(asked[1][user + 1][: len(rows)], done)
        assert (asked[0][user + 1][len(rows) :] == -1).all()


def test_what_was_done_before_the_log_follows_what_the_log_holds():
    before = {
        "watch": Ragged(np.array([0, 3, 3]), np.array([4, 5, 6], np.int32)),
        "like": Ragged(np.array([0, 1, 1]), np.array([5], np.int32)),
    }
    log = make_log(0, 2)
    log = replace(
        log, user=np.array([0, 0], np.int32), item=np.array([9, 8], np.int32), time=np.array([10, 20]),
        actions={"click": np.array([True, True]), "like": np.array([False, True])},
    )
    behaviour = Behaviour.of_log(make_catalogue(2, before), log)
    assert behaviour.actions == ("click", "like", "watch")
    items, bits, times = behaviour.recent(np.array([0, 0, 1]), np.array([20, 21, 99]), 4)
    assert items.tolist() == [[9, 6, 5, 4], [8, 9, 6, 5], [-1] * 4]
    assert bits[:2].tolist() == [[1, 4, 6, 4], [3, 1, 4, 6]]
    assert times.tolist() == [[10] + [UNKNOWN_TIME] * 3, [20, 10] + [UNKNOWN_TIME] * 2, [UNKNOWN_TIME] * 4]


def test_the_arrays_of_a_request_describe_each_item_once_and_carry_each_history_once():
    behaviour = make_behaviour()
    side = SideSpec.create(("user", "item"), 5, behaviour)
    user, item = np.array([3, 3, 3, 8]), np.array([1, 2, 1, 2])
    arrays = side.arrays(Entities(behaviour, user, item, np.full(4, SPAN)))
    assert arrays["history"].shape == (2, 5)
    assert arrays["asker"].tolist() == [0, 0, 0, 1]
    codes = arrays["items"][arrays["candidate"]]
    assert len(np.unique(arrays["items"][:, 0])) == len(arrays["items"])
    assert codes[:, 0].tolist() == [1, 2, 1, 2]
    assert codes[:, 1].tolist() == (item % 7).tolist()
    topics = CATALOGUE.item_topics[2][:3].tolist()
    assert codes[1, 2:5].tolist() == topics + [-1] * (3 - len(topics))
    assert codes[:, 5].tolist() == (item % 4).tolist()
    recent, bits, times = behaviour.recent(np.array([3, 8]), np.full(2, SPAN), 5)
    held = np.where(arrays["history"] >= 0, arrays["items"][arrays["history"], 0], -1)
    assert held.tolist() == recent.tolist()
    assert arrays["history_facts"][0, 0].tolist() == pytest.approx(
        [np.log1p((SPAN - times[0, 0]) / 3.6e9), bits[0, 0] & 1, bits[0, 0] >> 1 & 1], rel=1e-5
    )
    with pytest.raises(DataError, match="entities"):
        side.arrays(None)


def test_a_code_that_training_never_saw_has_a_vector_and_an_unknown_one_has_none():
    torch.manual_seed(0)
    table = CodeTable(["item", "format", "format"], [10, 4, 4], dim=6, buckets=1000, hashes=2)
    codes = torch.tensor([[3, 1, 1], [123_456_789, 9, -1], [-1, -1, 2]])
    vectors = table(codes)
    assert (vectors[1, 0] != 0).all()
    assert (vectors[1, 1:] == 0).all() and (vectors[2, :2] == 0).all()
    assert torch.equal(vectors[0, 1], vectors[0, 2])
    # 2,000 codes in 1,000 rows: with two functions hardly any two codes share both
    many = table(torch.stack([torch.arange(2000), *[torch.full((2000,), -1)] * 2], dim=1))[:, 0]
    assert len(torch.unique(many, dim=0)) > 1990


@pytest.fixture(scope="module", params=[TransformerConfig, DinConfig], ids=["transformer", "din"])
def reader(request, tmp_path_factory):
    """A ranker with histories and ids, in both lives."""
    config = request.param(**SMALL, ids=["user", "item", "author"], history_layers=2, members=2)
    ranker = fit_heavy(config, make_table(1500), make_table(300, 1), seed=0)
    folder = tmp_path_factory.mktemp("bundle")
    ranker.export(folder)
    return ranker, load_ranker(folder)


def test_a_candidate_scores_the_same_alone_with_others_and_in_any_order(reader):
    rng = np.random.default_rng(0)
    table = make_table(64, 5)
    entities = Entities(table.behaviour, np.full(64, 3), rng.integers(0, ITEMS, 64), np.full(64, SPAN))
    order = rng.permutation(64)
    for ranker in reader:
        together = ranker.predict(table.values, entities)
        shuffled = ranker.predict(table.values[order], entities.take(order))
        for name, scores in together.items():
            np.testing.assert_allclose(shuffled[name], scores[order], rtol=1e-5, atol=1e-6)
            for i in (0, 31):
                alone = ranker.predict(table.values[i : i + 1], entities.take(slice(i, i + 1)))
                np.testing.assert_allclose(alone[name][0], scores[i], rtol=1e-5, atol=1e-6)


def test_users_served_together_get_what_they_get_alone_and_histories_matter(reader):
    table = make_table(40, 5)
    entities = Entities(table.behaviour, np.arange(40) % 20, np.full(40, 7), np.full(40, SPAN))
    trained, served = (r.predict(table.values, entities)["click"] for r in reader)
    np.testing.assert_allclose(trained, served, atol=1e-5)
    for i in (0, 25):
        alone = reader[1].predict(table.values[i : i + 1], entities.take(slice(i, i + 1)))["click"]
        np.testing.assert_allclose(alone[0], served[i], atol=1e-6)
    earlier = replace(entities, time=np.zeros(40, np.int64))
    assert np.abs(reader[1].predict(table.values, earlier)["click"] - served).max() > 1e-4


def test_items_and_users_that_came_later_and_people_without_a_past_are_served(reader):
    table = make_table(6, 5)
    nobody = Entities(table.behaviour, np.full(6, -1), np.arange(6) + 10**6, np.full(6, SPAN))
    for ranker in reader:
        click = ranker.predict(table.values, nobody)["click"]
        assert np.isfinite(click).all()
    with pytest.raises(DataError, match="entities"):
        reader[1].predict(table.values)


def remembered(table):
    """The table with clicks on what has the format of the user's latest interaction."""
    recent = table.behaviour.recent(table.user, table.time, 1)[0][:, 0]
    same = (recent >= 0) & (recent % 4 == table.item % 4)
    draw = np.random.default_rng(len(table)).random(len(table))
    return replace(table, labels={"click": draw < np.where(same, 0.9, 0.1)})


@pytest.mark.parametrize("config", [DinConfig, TransformerConfig])
def test_a_taste_that_only_the_history_tells_is_learned(config):
    train, valid = remembered(make_table(4000)), remembered(make_table(1500, 1))
    more = {"epochs": 12, "patience": 12, "history_dim": 32, "history_length": 2, "learning_rate": 1e-2, "id_l2": 0.0}
    config = config(**SMALL | more, dropout=0, dwell=False)
    blind = SharedBottomConfig(hidden=[16], epochs=3, min_steps=0, batch_size=256, dwell=False)
    assert fit_heavy(config, train, valid, seed=0).metrics["click"]["roc_auc"] > 0.75
    assert fit_heavy(blind, train, valid, seed=0).metrics["click"]["roc_auc"] < 0.6


def test_ids_tell_items_apart_that_have_the_same_features():
    def told(table):
        draw = np.random.default_rng(len(table)).random(len(table))
        return replace(table, labels={"click": draw < np.where(table.item % 5 < 2, 0.9, 0.1)})

    train, valid = told(make_table(4000)), told(make_table(800, 1))
    config = DcnConfig(hidden=[16], epochs=6, min_steps=0, batch_size=256, ids=["item"], id_dim=8, dwell=False)
    assert fit_heavy(config, train, valid, seed=0).metrics["click"]["roc_auc"] > 0.8


def test_a_table_that_does_not_say_whose_rows_it_holds_is_refused():
    table = replace(make_table(100), behaviour=None)
    with pytest.raises(DataError, match="whose they are"):
        fit_heavy(NcfConfig(**{k: v for k, v in SMALL.items() if "history" not in k}), table, table, seed=0)


def test_a_request_reads_histories_from_the_state_as_training_reads_them_from_the_log(reader):
    state = State.build(CATALOGUE, LOG, int(LOG.time[2000]))
    users, items = np.array([5, 9, 5], np.int32), np.arange(24, dtype=np.int32).reshape(3, 8)
    items[1, 5:] = -1
    values = make_table(24, 5).values.reshape(3, 8, -1)
    later = state.now + 3_600_000_000
    query = SimpleNamespace(
        users=users, state=state, context=Context(later), snapshot=SimpleNamespace(features=lambda *a: values),
        bundle=SimpleNamespace(heavy=reader[1], measuring={}, spec=SimpleNamespace(positive=LOG.positive_actions)),
    )
    stage = HeavyRanking(HeavyStageConfig())
    got = stage._predict(reader[1], query, Candidates(items, np.zeros_like(items, np.uint32)), slice(0, 3))["p_click"]
    past = Behaviour.of_log(CATALOGUE, LOG.window(end=state.now))
    filled = items >= 0
    who = np.broadcast_to(users[:, None], items.shape)[filled]
    entities = Entities(past, who, items[filled], np.full(filled.sum(), later))
    np.testing.assert_allclose(got[filled], reader[0].predict(values[filled], entities)["click"], atol=1e-5)
    assert (got[~filled] == 0).all()


def test_a_guest_is_read_by_the_history_that_came_along(reader):
    state = State.build(CATALOGUE, LOG, SPAN)
    guest = with_guest(state, np.array([3, 8], np.int32))
    entities = Entities(
        Behaviour.of_state(guest, LOG.positive_actions), np.full(4, CATALOGUE.n_users), np.arange(4), np.full(4, SPAN)
    )
    side = reader[1].side
    arrays = side.arrays(entities)
    assert (arrays["user"] == -1).all()
    assert arrays["items"][arrays["history"][0, :2], 0].tolist() == [8, 3]
    assert np.isfinite(reader[1].predict(make_table(4).values, entities)["click"]).all()
