from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.schema import DAY
from recsys_cli.errors import DataError
from recsys_cli.world.config import ACTIONS
from recsys_cli.world.model import Model
from recsys_cli.world.people import DEVICES
from recsys_cli.world.responses import slate_fatigue
from recsys_cli.world.simulate import EdgeSet
from recsys_cli.world.simulator import World
from recsys_cli.world.visits import SURFACES


@pytest.fixture(scope="module")
def world(small_world):
    return World.open(small_world)


def first_day_slates(path):
    """Slates of the first logged day as arrays, with the logged rows and their truth."""
    log = pl.read_parquet(path / "impressions.parquet").hstack(pl.read_parquet(path / "truth" / "responses.parquet"))
    log = log.filter(pl.col("timestamp").dt.date() == pl.col("timestamp").dt.date().min())
    # each user's first request: nothing has happened yet that could have changed the user
    log = log.filter(pl.col("request_id") == pl.col("request_id").min().over("user_id")).sort("user_id", "position")
    users = log["user_id"].unique().sort().to_numpy()
    items = np.full((len(users), 10), -1, np.int32)
    row = np.searchsorted(users, log["user_id"].to_numpy())
    items[row, log["position"].to_numpy()] = log["item_id"].to_numpy() - 1
    first = log.group_by("user_id", maintain_order=True).first()
    return {
        "users": users - 1, "items": items, "times": first["timestamp"].cast(int).to_numpy(),
        "surface": np.array([SURFACES.index(s) for s in first["surface"]]),
        "device": np.array([DEVICES.index(d) for d in first["device"]]),
    }, log, (row, log["position"].to_numpy())


def test_simulator_and_log_share_one_model(world, small_world):
    slates, log, at = first_day_slates(small_world)
    assert log.height > 100
    graph = world.model.graph
    ties = EdgeSet.of_block(slice(0, world.n_users), world.n_users, graph.follows, graph.tie)
    chances = world.probabilities(**slates, follows=ties)
    done = world.respond(**slates, follows=ties)
    for action in ACTIONS:
        assert np.array_equal(chances[action][at], log[f"p_{action}"].to_numpy()), action
        assert np.array_equal(done[action][at], log[action].to_numpy()), action
    assert np.array_equal(chances["dwell"][at], log["dwell_mean"].to_numpy())
    assert np.array_equal(done["dwell"][at], log["dwell_seconds"].to_numpy())


def test_opened_world_is_the_one_that_was_made(world, small_config):
    made = Model.create(small_config, 7)
    assert np.array_equal(made.people.affinity, world.model.people.affinity)
    assert np.array_equal(made.future.created, world.model.future.created)
    assert made.config == world.model.config


def slates(world, n=400, seed=0, slots=6):
    rng = np.random.default_rng(seed)
    users = rng.integers(0, world.n_users, n)
    items = rng.integers(0, world.n_items, (n, slots))
    times = world.end + rng.integers(0, DAY, n)
    return users, items, times, rng.integers(0, 3, n), rng.integers(0, 3, n)


def test_same_slate_gets_the_same_response_whatever_is_asked_with_it(world):
    users, items, times, surface, device = slates(world)
    whole = world.respond(users, items, times, surface, device)
    some = slice(100, 150)
    part = world.respond(users[some], items[some], times[some], surface[some], device[some])
    for name, values in whole.items():
        assert np.array_equal(values[some], part[name], equal_nan=True), name
    other = world.respond(users, items, times, surface, device, salt=1)
    assert not np.array_equal(other["click"], whole["click"])


def test_responses_come_as_often_as_their_probabilities(world):
    users, items, times, surface, device = slates(world, 4000)
    chances = world.probabilities(users, items, times, surface, device)
    done = world.respond(users, items, times, surface, device)
    for action in ACTIONS:
        p = chances[action].astype(np.float64)
        assert abs(done[action].sum() - p.sum()) < 5 * np.sqrt((p * (1 - p)).sum()), action
    assert done["dwell"].mean() == pytest.approx(chances["dwell"].mean(), rel=0.05)


def test_empty_places_answer_nothing(world):
    users, items, times, surface, device = slates(world, 50)
    items[:, 2:] = -1
    done = world.respond(users, items, times, surface, device)
    assert not any(done[a][:, 2:].any() for a in ACTIONS)
    assert np.isnan(done["dwell"][:, 2:]).all()
    assert np.isfinite(done["dwell"][:, :2]).all()
    with pytest.raises(ValueError, match="does not exist"):
        world.respond(users, np.full_like(items, world.n_items), times, surface, device)


def test_fatigue_counts_the_same_author_and_topic_above(world):
    content = world.model.behaviour.content
    author = np.bincount(content.author).argmax()
    one, two = np.flatnonzero(content.author == author)[:2]
    elsewhere = ~np.isin(content.topics[:, 0], content.topics[[one, two], 0])
    other = np.flatnonzero((content.author != author) & elsewhere)[0]
    same_topic = 0.5 * (content.topics[one, 0] == content.topics[two, 0])
    fatigue = slate_fatigue(np.array([[one, other, two, -1]]), content)
    assert fatigue.tolist() == [[0, 0, 1 + same_topic, 0]]
    repeated = world.probabilities([0], [[one, other, two]], [world.end], [1], [0])["click"][0, 2]
    fresh = world.probabilities([0], [[-1, other, two]], [world.end], [1], [0])["click"][0, 2]
    assert repeated < fresh


def test_nobody_follows_whom_they_follow_already(world):
    ties = world.follows()
    user, author = ties.keys[0] // world.n_users, ties.keys[0] % world.n_users
    items = np.flatnonzero(world.model.behaviour.content.author == author)
    users = np.arange(world.n_users)
    item = items[0] if len(items) else 0
    if not len(items):
        author = world.model.behaviour.content.author[0]
    slate = np.full((world.n_users, 1), item)
    times, codes = np.full(world.n_users, world.end), np.ones(world.n_users, np.int8)
    before = world.probabilities(users, slate, times, codes, codes, follows=ties)
    known = ties.has(users, np.full(world.n_users, author))
    assert np.array_equal(before["follow"][:, 0] == 0, known)
    stranger = int(np.flatnonzero(~known)[0])
    world.add_follows(ties, [stranger], [item])
    after = world.probabilities(users, slate, times, codes, codes, follows=ties)
    assert after["follow"][stranger, 0] == 0
    assert after["like"][stranger, 0] > before["like"][stranger, 0]
    assert not world.follows().has(np.array([stranger]), np.array([author]))[0], "the world itself is unchanged"
    assert user >= 0


def test_pleased_users_return_more_and_at_the_same_moments(world):
    low, high = (world.visits(1, np.full(world.n_users, s, np.float32)) for s in (-2, 2))
    assert len(np.unique(high.user)) > len(np.unique(low.user))
    assert np.isin(low.request, high.request).all()
    assert np.isin(low.time, high.time).all()
    again = world.visits(1, np.full(world.n_users, -2, np.float32))
    assert np.array_equal(again.time, low.time)


def test_visits_lie_within_their_day_in_order(world):
    for day in range(3):
        visits = world.visits(day)
        assert len(visits) > 20
        assert visits.time.min() >= world.end + day * DAY
        assert visits.time.max() < world.end + (day + 1) * DAY
        same = visits.user[1:] == visits.user[:-1]
        assert (np.diff(visits.time)[same] > 0).all()
        assert (np.diff(visits.request)[same] > 0).all()
        assert (visits.depth[np.concatenate([[True], visits.session[1:] != visits.session[:-1]])] == 0).all()


def test_satisfaction_follows_what_happened(world):
    users, items, *_ = slates(world, 200)
    nothing = {a: np.zeros(items.shape, bool) for a in ACTIONS} | {"dwell": np.ones(items.shape, np.float32)}
    liked = nothing | {"like": np.ones(items.shape, bool)}
    hidden = nothing | {"hide": np.ones(items.shape, bool)}
    start = np.zeros(world.n_users, np.float32)
    values = [world.next_satisfaction(start, users, items, r)[np.unique(users)] for r in (hidden, nothing, liked)]
    assert (values[0] < values[1]).all() and (values[1] < values[2]).all()
    away = np.setdiff1d(np.arange(world.n_users), users)
    assert (world.next_satisfaction(start, users, items, liked)[away] == 0).all()


def test_future_items_continue_the_dataset(world, small_world):
    dataset = Dataset.open(small_world)
    first = dataset.items.height
    seen = 0
    for day in range(world.horizon_days):
        table, positions = world.future_items(day), world.future_positions(day)
        assert table.num_rows == len(positions) > 0
        assert positions.start == first + seen
        assert table["item_id"].to_pylist() == [p + 1 for p in positions]
        moments = table["created_at"].cast("int64").to_numpy()
        assert moments.min() >= world.end + day * DAY and moments.max() < world.end + (day + 1) * DAY
        assert table.schema.names == dataset.items.columns
        seen += table.num_rows
    assert world.n_items == first + seen
    assert world.future_items(99).num_rows == 0
    stored = pl.read_parquet(small_world / "truth" / "future_items.parquet")
    assert stored["text"][: world.future_items(0).num_rows].to_list() == world.future_items(0)["text"].to_pylist()


def test_dataset_without_its_truth_cannot_be_simulated(small_world, tmp_path):
    shutil.copytree(small_world, tmp_path / "bare", ignore=shutil.ignore_patterns("truth"))
    with pytest.raises(DataError, match="no truth"):
        World.open(tmp_path / "bare")
    (tmp_path / "bare" / "truth").mkdir()
    (tmp_path / "bare" / "truth" / "world.arrays").write_bytes(b"RSARR001 cut off")
    with pytest.raises(DataError):
        World.open(tmp_path / "bare")
