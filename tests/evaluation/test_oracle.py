"""What a generated world is asked in an evaluation, against plain loops over its own answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.errors import DataError
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.evaluation.figures import Figures
from recsys_cli.evaluation.lists import System
from recsys_cli.evaluation.oracle import Oracle, has_truth, logged_responses, ties_of
from recsys_cli.evaluation.truth import find_truth
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.safety.models import SafetyModels
from recsys_cli.safety.policy import SafetyRules
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate
from recsys_cli.world.simulator import World
from recsys_cli.world.visits import SURFACES

CUT = 4
KS = [3, 10, 40]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """80 users and 500 items in two shards; a cutoff after four of its six days."""
    path = tmp_path_factory.mktemp("oracle") / "world"
    config = WorldConfig(users=80, items=500, days=6, impressions_per_user=90, horizon_days=1, shards=2)
    generate(config, 5, path, threads=1)
    return Dataset.open(path)


@pytest.fixture(scope="module")
def state(dataset) -> State:
    cut = int(dataset.log.time[0]) // DAY * DAY + CUT * DAY
    return State.build(dataset.catalogue, dataset.log, cut, dataset.edges("follows"), dataset.edges("blocks"))


def engine(dataset, state, **pipeline):
    """As much of an engine as the oracle looks at."""
    config = PipelineConfig.model_validate({"filters": {"max_age_days": 5}} | pipeline)
    catalogue, ids = dataset.catalogue, dataset.user_ids
    negative = dataset.log.negative_actions
    bundle = SimpleNamespace(
        negative_actions=negative, catalogue=catalogue, user_ids=ids, heavy=None, proposed_weights={}, repeats=False
    )
    rules = SafetyRules.of(config.safety, catalogue, SafetyModels())
    return SimpleNamespace(state=state, snapshot=None, bundle=bundle, pipeline=config, safety_rules=rules, seed=0)


@pytest.fixture(scope="module")
def oracle(dataset, state) -> Oracle:
    return Oracle.of(dataset, engine(dataset, state))


@pytest.fixture(scope="module")
def grid(dataset, state):
    """Utility [users, items] of everything by a loop over users, and what the filters leave by a loop over pairs."""
    world = World.open(dataset.path)
    ties = ties_of(world, engine(dataset, state))
    config, n = PipelineConfig().utility, state.catalogue.n_items
    rules = SafetyRules.of(PipelineConfig().safety, dataset.catalogue, SafetyModels()).verdicts(dataset.catalogue)
    utility, open_to = np.zeros((80, n)), np.zeros((80, n), bool)
    for user in range(80):
        chances = world.probabilities(
            np.full(n, user), np.arange(n)[:, None], np.full(n, state.now), np.full(n, SURFACES.index("home")),
            np.full(n, world.model.people.device[user]), follows=ties,
        )
        for action, chance in chances.items():
            weight = config.dwell if action == "dwell" else config.weights[action]
            utility[user] += (-weight if action in ("hide", "mute", "block", "report") else weight) * chance[:, 0]
        for item in range(n):
            author, created = state.catalogue.item_author[item], state.catalogue.item_created[item]
            open_to[user, item] = (
                state.now - 5 * DAY <= created < state.now
                and author != user
                and author not in state.blocked[user]
                and item not in state.seen[user]
                and not rules.drops[0, item]
            )
    return utility, open_to


def test_what_may_be_shown_is_what_the_filters_of_the_pipeline_leave(oracle, grid):
    _, open_to = grid
    items = np.tile(np.arange(500, dtype=np.int32), (80, 1))
    items[:, 7] = -1
    found = oracle.may_show(np.arange(80, dtype=np.int32), items)
    assert not found[:, 7].any()
    assert np.array_equal(np.delete(found, 7, 1), np.delete(open_to, 7, 1))
    assert 0 < open_to.mean() < 0.9


def test_the_best_items_are_those_of_a_full_sort_by_true_utility(oracle, grid):
    utility, open_to = grid
    users = np.array([0, 3, 50, 79], np.int32)
    items, worth, mean = oracle.best(users, 25)
    assert mean == open_to[users].sum() / 4
    for row, user in enumerate(users):
        order = np.argsort(np.where(open_to[user], -utility[user], np.inf))[:25]
        assert worth[row] == pytest.approx(utility[user, order], abs=1e-5)
        assert utility[user, items[row]] == pytest.approx(worth[row], abs=1e-5)
        assert open_to[user, items[row]].all() and len(set(items[row].tolist())) == 25


def test_the_oracle_s_own_order_has_a_true_ndcg_of_exactly_one_and_no_other_more(oracle):
    users = np.arange(80, dtype=np.int32)
    best, ideal, _ = oracle.best(users, 40)
    perfect = oracle.figures(users, best, ideal, KS, 10)
    assert all((perfect[f"true_ndcg@{k}"] == 1.0).all() for k in KS)
    worse = oracle.figures(users, best[:, ::-1], ideal, KS, 10)
    assert all((worse[f"true_ndcg@{k}"] < 1.0).all() for k in KS)
    assert "true_value@10" in perfect and "true_value@40" not in perfect


def test_figures_of_a_list_worked_by_hand(oracle, grid, dataset, state):
    utility, open_to = grid
    user = 12
    ranked = np.argsort(np.where(open_to[user], -utility[user], np.inf))
    closed = int(np.flatnonzero(~open_to[user])[0])
    items = np.array([[ranked[4], closed, ranked[0], -1]], np.int32)
    users = np.array([user], np.int32)
    found = oracle.figures(users, items, oracle.best(users, 40)[1], [3], 10)
    gain = np.maximum(utility[user, ranked], 0)
    wanted = (gain[4] + gain[0] / 2) / (gain[0] + gain[1] / np.log2(3) + gain[2] / 2)
    assert found["true_ndcg@3"] == pytest.approx([wanted], rel=1e-5)
    # shown as one slate the second item stands lower, and its place costs it something
    whole = oracle.utility(users, np.array([[ranked[4], -1, ranked[0]]], np.int32))[0]
    assert whole[0] == pytest.approx(gain[4], rel=1e-5) and whole[1] == 0 and whole[2] < gain[0]
    assert found["true_value@3"] == pytest.approx([whole.sum() / 3], rel=1e-6)


def test_the_weights_are_those_of_the_pipeline_and_of_the_user(dataset, state):
    country = dataset.users["country"]
    only = {"weights": {"click": 1.0}, "dwell": 0.0}
    plain = Oracle.of(dataset, engine(dataset, state, utility=only))
    segments = [{"attribute": "country", "multiply": {"US": {"click": 3}}}]
    own = Oracle.of(dataset, engine(dataset, state, utility=only | {"segments": segments}))
    users, items = np.arange(80, dtype=np.int32), np.full((80, 1), 9, np.int32)
    click = plain.utility(users, items)[:, 0]
    assert ((click > 0) & (click < 1)).all()
    factor = np.where((country == "US").to_numpy(), 3, 1)
    assert own.utility(users, items)[:, 0] == pytest.approx(click * factor)
    assert len(set(factor.tolist())) == 2


def test_ties_are_those_of_the_moment(dataset, state):
    world = World.open(dataset.path)
    ties, end = ties_of(world, engine(dataset, state)), world.follows()
    held = {(k // ties.n, k % ties.n) for k in ties.keys.tolist()}
    assert held == {(u, a) for u in range(80) for a in state.follows[u].tolist()}
    later = {(k // end.n, k % end.n) for k in end.keys.tolist()} - held
    log = dataset.log
    new = log.actions["follow"] & (log.time >= state.now)
    assert later == set(zip(log.user[new].tolist(), dataset.catalogue.item_author[log.item[new]].tolist(), strict=True))
    assert later


def test_true_ndcg_does_not_depend_on_what_the_log_showed(dataset, state, oracle):
    log = dataset.log
    end = int(log.time[-1]) + 1
    truth = find_truth(log, state, state.now, end)
    # another policy might have shown other things: take every second relevant item away
    odd = truth.relevant.values % 2 == 1
    fewer = replace(truth, relevant=type(truth.relevant).group(
        truth.relevant.rows[odd], truth.relevant.values[odd], len(truth.users)
    ))
    config = EvaluationConfig(k=(3, 10), resamples=100)
    lists = np.tile(np.argsort(-state.trending).astype(np.int32)[:10], (len(truth.users), 1))
    system = System("baseline", "trending", dict.fromkeys(config.k, lists))
    measured = []
    for known in (truth, fewer):
        figures = Figures(state, log, end, known, config, 0, 10)
        figures.ask(oracle, 10)
        measured.append(figures.measure([system])[0][0]["metrics"])
    first, second = measured
    for metric in ("true_ndcg@10", "true_value@10"):
        assert first[metric]["value"] == second[metric]["value"] and first[metric] == pytest.approx(second[metric])
    assert 0 < first["true_ndcg@10"]["value"] < 1
    assert first["recall@10"] != second["recall@10"]


def test_a_large_world_is_asked_about_some_users_alone(monkeypatch, dataset, state, oracle):
    monkeypatch.setattr("recsys_cli.evaluation.oracle.MAX_PAIRS", 0)
    monkeypatch.setattr("recsys_cli.evaluation.oracle.MIN_USERS", 20)
    places = oracle.users(60, 3)
    assert len(places) == 20 == len(set(places.tolist())) and np.array_equal(places, oracle.users(60, 3))
    assert oracle.users(15, 3).tolist() == list(range(15))
    log = dataset.log
    end = int(log.time[-1]) + 1
    truth = find_truth(log, state, state.now, end)
    figures = Figures(state, log, end, truth, EvaluationConfig(k=(5,), resamples=100), 0, 10)
    part, best = figures.ask(oracle, 5)
    assert part["users"] == len(best) == 20 < len(truth.users)
    lists = np.full((len(truth.users), 5), -1, np.int32)
    lists[oracle.users(len(truth.users), 0)] = best
    metrics = figures.measure([System("oracle", "oracle", {5: lists})])[0][0]["metrics"]
    assert metrics["true_ndcg@5"]["value"] == 1.0


def test_responses_stand_beside_the_impressions_they_are_of(dataset, state):
    log, end = dataset.log, int(dataset.log.time[-1]) + 1
    found = logged_responses(dataset, state.now, end)
    window = log.window(state.now, end)
    files = [sorted((dataset.path / name).glob("part-*.parquet")) for name in ("impressions", "truth/responses")]
    assert len(files[0]) == len(files[1]) == 2
    rows = pl.read_parquet(files[0]).hstack(pl.read_parquet(files[1]))
    by_key = {
        (user - 1, item - 1, time): chance
        for user, item, time, chance in zip(
            rows["user_id"], rows["item_id"], rows["timestamp"].cast(pl.Int64), rows["p_like"], strict=True
        )
    }
    wanted = [by_key[key] for key in zip(window.user.tolist(), window.item.tolist(), window.time.tolist(), strict=True)]
    assert found["like"].tolist() == wanted and len(wanted) > 500
    assert set(found) == {*log.actions, "dwell"}


def test_truth_of_other_impressions_is_refused_and_without_any_is_no_oracle(dataset, tmp_path, tiny_dataset):
    other = tmp_path / "other"
    shutil.copytree(dataset.path, other)
    part = sorted((other / "truth/responses").glob("part-*.parquet"))[0]
    pl.read_parquet(part)[1:].write_parquet(part)
    with pytest.raises(DataError, match="rows of responses"):
        logged_responses(Dataset.open(other), 0, 2**60)
    part.write_bytes(part.read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        logged_responses(Dataset.open(other), 0, 2**60)
    shutil.rmtree(other / "truth")
    for without in (Dataset.open(other), Dataset.open(tiny_dataset)):
        assert not has_truth(without)
        assert Oracle.of(without, None) is None and logged_responses(without, 0, 2**60) is None
