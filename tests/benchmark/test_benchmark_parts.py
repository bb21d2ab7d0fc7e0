"""Tasks, folds and the search by hand-worked cases; shipped files; the figures of public data."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.benchmark.config import BenchmarkConfig, HeldOut, NextItem, RatingFolds
from recsys_cli.benchmark.folds import measure_ratings, rating_errors, read_ratings
from recsys_cli.benchmark.ranking import rank_everybody, ranking_figures
from recsys_cli.benchmark.tasks import ranking_task
from recsys_cli.benchmark.tune import coordinate_search, some_users
from recsys_cli.config import read_yaml, validate
from recsys_cli.errors import DataError
from recsys_cli.progress import Progress
from recsys_cli.retrieval.popularity.popularity import PopularityConfig
from recsys_cli.retrieval.ratings import (
    Baseline,
    BaselineConfig,
    BiasedSvd,
    BiasedSvdConfig,
    RatingNeighbours,
    RatingNeighboursConfig,
    Ratings,
    disjoint_steps,
)  # fmt: skip
from recsys_cli.retrieval.registry import make

BENCHMARKS = Path(__file__).parents[2] / "configs" / "benchmarks"
OF_ONE_PROTOCOL = [path for path in sorted(BENCHMARKS.glob("*.yaml")) if "tasks" not in read_yaml(path)]


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "train.txt").write_text("7 10 11 12\n3 10 13\n9 10 11\n\n4\n")
    (tmp_path / "test.txt").write_text("7 13\n3 11 12\n9\n")
    (tmp_path / "sequences.txt").write_text("5 6 7 8\n7 5 6 9\n6 8 5 7\n")
    return tmp_path


def test_held_out_items_are_ranked_among_the_unseen(lists):
    task = ranking_task(HeldOut(k=(2,)), lists, seed=0)
    assert task.counts == {"users": 3, "items": 4, "fitted_on": 7, "test_users": 2, "to_find": 3}
    # users 3 and 7 are positions 0 and 1, items 10 to 13 positions 0 to 3
    assert task.users.tolist() == [0, 1]
    assert [task.relevant[r].tolist() for r in (0, 1)] == [[1, 2], [3]]
    assert np.sort(task.state.history[1]).tolist() == [0, 1, 2]
    source = make(PopularityConfig())
    source.fit(task.window, Progress())
    items = rank_everybody(source, task, 2, Progress())
    assert items.tolist() == [[1, 2], [3, -1]]
    assert ranking_figures(items, task, ("recall", "ndcg"), (1, 2)) == {
        "recall@1": 0.75, "recall@2": 1.0, "ndcg@1": 1.0, "ndcg@2": 1.0,
    }  # fmt: skip


def test_the_last_item_is_to_be_found_and_the_last_two_are_not_learned_from(lists):
    task = ranking_task(NextItem(), lists, seed=0)
    assert task.relevant.values.tolist() == [3, 4, 2] and not task.exclude_seen
    assert len(task.window.log) == 6
    assert [task.state.history[u].tolist() for u in range(3)] == [[0, 1, 2], [2, 0, 1], [1, 3, 0]]
    hidden = ranking_task(NextItem(validation_users=2), lists, seed=0, validation=True)
    assert len(hidden.users) == 2
    expected = {0: 2, 1: 1, 2: 0}
    assert hidden.relevant.values.tolist() == [expected[u] for u in hidden.users.tolist()]
    assert all(len(hidden.state.history[u]) == 2 for u in hidden.users)


def test_validation_hides_a_slice_of_train_and_reads_nothing_of_test(lists):
    (lists / "train.txt").write_text("0 " + " ".join(map(str, range(20))) + "\n1 3 4 5 6\n")
    (lists / "test.txt").write_text("0 21 22\n")
    run = ranking_task(HeldOut(validation_from=0.75), lists, seed=0, validation=True)
    assert run.relevant[0].tolist() == [15, 16] and run.relevant[1].tolist() == [6]
    assert len(run.window.log) == 24 - 3
    random = ranking_task(HeldOut(validation_share=0.5), lists, seed=1, validation=True)
    assert len(random.relevant.values) + len(random.window.log) == 24
    assert len(some_users(random, 1, 0).users) == 1 and some_users(random, 9, 0) is random


def hand_ratings() -> Ratings:
    rows = np.array([(0, 0, 5), (0, 1, 3), (1, 0, 4), (1, 1, 2), (1, 2, 3), (2, 1, 4), (2, 2, 5)])
    return Ratings(rows[:, 0], rows[:, 1], rows[:, 2].astype(float), 3, 4)


def test_neighbours_ratings_by_hand():
    model = RatingNeighbours(RatingNeighboursConfig(centre="none", neighbours=2))
    model.fit(hand_ratings())
    # differences: users 0 and 1 by 1 and 1, users 0 and 2 by 1, users 1 and 2 by 2 and 2
    np.testing.assert_allclose(model.likeness[0, 1:], [1 / 2, 1 / 2])
    assert model.likeness[1, 2] == pytest.approx(1 / 5)
    assert model.predict(np.array([0]), np.array([2]))[0] == pytest.approx((0.5 * 3 + 0.5 * 5) / 1)
    assert model.predict(np.array([0]), np.array([3]))[0] == pytest.approx(26 / 7)
    centred = RatingNeighbours(RatingNeighboursConfig(centre="mean"))
    centred.fit(hand_ratings())
    # user 0 has mean 4; users 1 and 2 rate item 2 at 0 and 0.5 over their means
    assert centred.predict(np.array([0]), np.array([2]))[0] == pytest.approx(4 + (0.5 * 0 + 0.5 * 0.5) / 1)


def test_baseline_solves_its_equations():
    model = Baseline(BaselineConfig(epochs=200, user_l2=2, item_l2=3))
    r = hand_ratings()
    model.fit(r)
    rest = r.value - model.predict(r.user, r.item)
    np.testing.assert_allclose(np.bincount(r.user, rest), 2 * model.user_bias, atol=1e-9)
    np.testing.assert_allclose(np.bincount(r.item, rest, 4), 3 * model.item_bias, atol=1e-9)


def test_a_step_of_the_descent_is_that_of_one_rating_after_the_other():
    r = hand_ratings()
    model = BiasedSvd(BiasedSvdConfig(dim=3, epochs=2, learning_rate=0.1))
    model.fit(r, seed=5)
    generator = np.random.default_rng(5)
    b_u, b_i, p, q = np.zeros(3), np.zeros(4), generator.normal(0, 0.1, (3, 3)), generator.normal(0, 0.1, (4, 3))
    steps = disjoint_steps(r.user, r.item, generator)
    for _ in range(2):
        for at in generator.permutation(len(steps)):
            for row in steps[at]:
                u, i = r.user[row], r.item[row]
                error = r.value[row] - (r.value.mean() + b_u[u] + b_i[i] + p[u] @ q[i])
                b_u[u] += 0.1 * (error - 0.02 * b_u[u])
                b_i[i] += 0.1 * (error - 0.02 * b_i[i])
                p[u], q[i] = p[u] + 0.1 * (error * q[i] - 0.02 * p[u]), q[i] + 0.1 * (error * p[u] - 0.02 * q[i])
    np.testing.assert_allclose(model.user_vectors, p)
    np.testing.assert_allclose(model.item_vectors[:3], q[:3])
    assert model.predict(np.array([1]), np.array([3]))[0] == pytest.approx(r.value.mean() + b_u[1])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40, unique=True))
@settings(max_examples=60, deadline=None)
def test_ratings_of_a_step_share_no_user_and_no_item(pairs):
    user, item = (np.array(c) for c in zip(*pairs, strict=True))
    steps = disjoint_steps(user, item, np.random.default_rng(0))
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(pairs)))
    for rows in steps:
        assert len(set(user[rows])) == len(set(item[rows])) == len(rows) > 0


def test_errors_by_hand():
    assert rating_errors(np.array([1.0, 5.0]), np.array([2.0, 3.0])) == {"rmse": np.sqrt(2.5), "mae": 1.5}


def test_coordinate_search_climbs_and_measures_nothing_twice():
    seen = []

    def measure(s):
        seen.append((s["a"], s["b"]))
        return {"x": 10.0 - (s["a"] - 3) ** 2 - 0.25 * (s["b"] - s["a"]) ** 2}

    best, attempts = coordinate_search({"a": 0, "b": 0}, {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}, measure, rounds=9)
    assert best == {"a": 3, "b": 3} and len(attempts) == len(seen) == len(set(seen))


@pytest.mark.parametrize("path", OF_ONE_PROTOCOL, ids=lambda p: p.stem)
def test_shipped_benchmarks_are_valid(path):
    config = validate(BenchmarkConfig, read_yaml(path), path)
    assert config.name == path.stem and config.published
    for name, values in config.search.items():
        for key, options in values.items():
            for option in options:
                type(config.models[name]).model_validate({**config.models[name].model_dump(), key: option})


@pytest.mark.shared_data
@pytest.mark.slow
def test_rating_errors_are_those_that_surprise_publishes(shared_data):
    config = validate(BenchmarkConfig, read_yaml(BENCHMARKS / "movielens100k.yaml"))
    assert isinstance(config.protocol, RatingFolds)
    ratings, _ = read_ratings(config.protocol, shared_data / "ml-100k")
    published = {p.method: p.figures for p in config.published}
    for ours, theirs in (
        ("biased_svd", "SVD"), ("user_neighbours", "k-NN"), ("user_neighbours_centred", "Centered k-NN"),
        ("user_neighbours_baseline", "k-NN Baseline"), ("baseline", "Baseline"),
    ):  # fmt: skip
        found = measure_ratings(config.rating_models[ours], config.protocol, ratings, 42, Progress())["figures"]
        for name, value in found.items():
            assert value == pytest.approx(published[theirs][name], abs=0.006), (ours, name)


@pytest.mark.parametrize("path", OF_ONE_PROTOCOL, ids=lambda p: p.stem)
def test_every_value_that_a_shipped_file_tries_is_a_setting_of_its_model(path):
    config = validate(BenchmarkConfig, read_yaml(path), path)
    for name, values in config.search.items():
        given = config.models[name]
        assert set(values) <= set(type(given).model_fields)
        for setting, options in values.items():
            for option in options:
                tried = type(given).model_validate({**given.model_dump(), setting: option})
                assert getattr(tried, setting) is not None or option is None


def ratings_file(tmp_path, text: str, **says):
    (tmp_path / "r.tsv").write_text(text)
    return read_ratings(RatingFolds(ratings="r.tsv", folds=2, **says), tmp_path)


@pytest.mark.parametrize(
    "header", ["item_id:token\tuser_id:token\trating:float", "movieId\tuserId\tstars", "ITEM\tUSER\tscore\tt"]
)
def test_columns_of_ratings_are_found_by_their_names(tmp_path, header):
    found, _ = ratings_file(tmp_path, header + "\na\tu\t5\nb\tu\t3\nc\tv\t1\n")
    assert (found.users, found.items) == (2, 3) and found.user.tolist() == [0, 0, 1]
    assert found.value.tolist() == [5, 3, 1]


def test_a_time_is_not_taken_for_a_rating(tmp_path):
    found, _ = ratings_file(tmp_path, "user_id\titem_id\ttimestamp\trating\n1\t2\t1700000000\t4\n1\t3\t1700000001\t2\n")
    assert found.value.tolist() == [4, 2]
    with pytest.raises(DataError, match="no column is called rating"):
        ratings_file(tmp_path, "user_id\titem_id\ttimestamp\n1\t2\t1700000000\n1\t3\t1700000001\n")


@pytest.mark.parametrize(
    ("bad", "words"), [("nan", "line 3: not a user"), ("0", "line 3: rating 0 lies outside the scale 1 to 5")]
)
def test_ratings_that_are_none_or_outside_the_scale_are_refused(tmp_path, bad, words):
    with pytest.raises(DataError, match=words):
        ratings_file(tmp_path, f"user\titem\trating\n1\t2\t4\n1\t3\t{bad}\n2\t2\t1\n")


def test_repeated_ratings_are_told(tmp_path):
    _, notes = ratings_file(tmp_path, "user\titem\trating\n1\t2\t4\n1\t2\t5\n2\t2\t1\n")
    assert notes and notes[0].startswith("1 ratings repeat a user and an item")


def test_test_pairs_that_stand_in_train_are_told(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 3 4\n")
    (tmp_path / "test.txt").write_text("0 2 3\n1 5\n")
    task = ranking_task(HeldOut(), tmp_path, 0)
    assert task.notes == ("1 of 3 test pairs stand in train too: they can never be listed, and count as missed",)


@pytest.mark.parametrize("text", ["0 10 11\n1 10 12\n", "0 10\n1 10\n0 11\n1 12\n", "0 10 5\n0 11 4\n1 10 3\n1 12 5\n"])
def test_pairs_and_triplets_are_the_same_task_as_adjacency_lists(tmp_path, text):
    (tmp_path / "train.txt").write_text(text)
    (tmp_path / "test.txt").write_text("0 12\n1 11\n")
    task = ranking_task(HeldOut(), tmp_path, 0)
    log = task.window.log
    assert sorted(zip(log.user.tolist(), log.item.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 2)]
