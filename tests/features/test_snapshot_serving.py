"""The serving snapshot: batches, unknown users and items, choices of columns, and its life in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import orjson
import pytest
from feature_worlds import make_world

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.data.catalogue import Columns
from recsys_cli.features.build import build_table
from recsys_cli.features.context import Context
from recsys_cli.features.define import create_spec
from recsys_cli.features.item_values import ItemValues
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.testing.small_world import ITEMS, USERS

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def served():
    spec, catalogue, log, edges = make_world(11, n=400)
    now = int(log.time[-1]) + 1
    rng = np.random.default_rng(0)
    users = np.array([0, 3, -1, 5, 3], np.int32)
    items = rng.integers(-1, ITEMS, (5, 7)).astype(np.int32)
    context = Context(now, np.array([0, 1, 1, -1, 0], np.int16), np.array([0, -1, 2, 1, 0], np.int16))
    context = replace(context, more={"network": np.array([1, 0, -1, 1, 0], np.int32)})
    return Snapshot.build(spec, catalogue, log, now, edges), users, items, context


def one(context: Context, b: int) -> Context:
    return context.rows(slice(b, b + 1))


def test_a_user_alone_gets_the_same_numbers_as_in_a_batch(served):
    snapshot, users, items, context = served
    scores = {"als": np.arange(items.size, dtype=np.float32).reshape(items.shape)}
    batch = snapshot.features(users, items, context, scores)
    assert batch.shape == (5, 7, len(snapshot.spec.features)) and np.isfinite(batch).all()
    for b in range(5):
        mine = {"als": scores["als"][b : b + 1]}
        alone = snapshot.features(users[b : b + 1], items[b : b + 1], one(context, b), mine)
        np.testing.assert_array_equal(alone[0], batch[b])
    np.testing.assert_array_equal(batch[..., snapshot.spec.column["sim_als"]], np.where(items >= 0, scores["als"], 0))


def test_an_empty_slot_is_a_row_of_zeros(served):
    snapshot, users, items, context = served
    values = snapshot.features(users, items, context)
    assert (items < 0).any() and not values[items < 0].any()
    assert values[items >= 0].any(axis=1).all()


def test_an_unknown_user_has_zero_counters_and_general_rates(served):
    snapshot, users, items, context = served
    values, at = snapshot.features(users, items, context)[2], snapshot.spec.column
    values = values[items[2] >= 0]
    for name in ("user_impressions", "user_author_impressions", "tie_strength", "follows_author", "topic_match"):
        assert not values[:, at[name]].any(), name
    assert values[0, at["user_click_logodds"]] == pytest.approx(snapshot.everything["click"], abs=1e-5)


@pytest.mark.parametrize(
    "columns",
    [
        ("item_age", "tie_strength", "topic_match"),
        ("topic_match", "user_click_logodds", "item_age"),
        ("hour_sine",),
        ("hobbies_tags_jaccard", "look_match", "user_born_age", "context_network"),
        ("user_surface_like_logodds", "item_surface_negative_logodds", "sim_als", "mutual_follow"),
    ],
)
def test_some_columns_equal_those_of_all(served, columns):
    snapshot, users, items, context = served
    scores = {"als": np.full(items.shape, 2.5, np.float32)}
    whole = snapshot.features(users, items, context, scores)
    some = snapshot.features(users, items, context, scores, columns)
    np.testing.assert_array_equal(some, whole[..., [snapshot.spec.column[c] for c in columns]])


def test_a_request_without_context_stands_on_the_commonest_surface(served):
    snapshot, users, items, context = served
    surface = np.full(5, snapshot.usual["surface"], np.int16)
    device = np.full(5, snapshot.usual["device"], np.int16)
    assert min(snapshot.usual["surface"], snapshot.usual["device"]) >= 0
    usual = snapshot.features(users, items, Context(context.now, surface, device))
    np.testing.assert_array_equal(snapshot.features(users, items, Context(context.now)), usual)
    more = {n: np.full(5, snapshot.usual[n], np.float32) for n in ("network", "temperature", "cell")}
    told = snapshot.features(users, items, Context(context.now, surface, device, more=more))
    np.testing.assert_array_equal(told, usual)
    part = Context(context.now, surface, device).rows(slice(1, 3))
    np.testing.assert_array_equal(snapshot.features(users[1:3], items[1:3], part), usual[1:3])


def test_an_unknown_column_is_refused(served):
    snapshot, users, items, context = served
    with pytest.raises(KeyError, match="no feature 'nonsense'"):
        snapshot.features(users, items, context, columns=("nonsense",))


def test_ages_and_trends_go_on_after_the_snapshot(served):
    snapshot, users, items, context = served
    later = Context(context.now + 6 * HOUR, context.surface, context.device)
    names = ("item_age", "user_since_shown", "item_trend", "user_author_since_shown", "item_impressions")
    before, after = (snapshot.features(users, items, c, columns=names) for c in (context, later))
    minutes = np.expm1(after[..., 1]) - np.expm1(before[..., 1])
    known = (items >= 0) & (users >= 0)[:, None]
    np.testing.assert_allclose(minutes[known], 360, rtol=1e-3)
    np.testing.assert_allclose(np.expm1(after[..., 2]), np.expm1(before[..., 2]) / 2, rtol=1e-4, atol=1e-6)
    assert (after[..., 0] >= before[..., 0]).all() and (after[..., 3] >= before[..., 3]).all()
    np.testing.assert_array_equal(before[..., 4], after[..., 4])


def test_a_snapshot_from_a_file_serves_the_same_without_heavy_imports(served, tmp_path):
    snapshot, users, items, context = served
    arrays, meta = snapshot.to_arrays()
    save_arrays(tmp_path / "features.arrays", arrays, meta)
    read = Snapshot.from_arrays(*load_arrays(tmp_path / "features.arrays"))
    assert read.spec == snapshot.spec and read.now == snapshot.now
    np.testing.assert_array_equal(read.features(users, items, context), snapshot.features(users, items, context))
    code = (
        "import sys, numpy as np; from recsys_cli.arrays import load_arrays; "
        "from recsys_cli.features.context import Context; from recsys_cli.features.snapshot import Snapshot; "
        f"s = Snapshot.from_arrays(*load_arrays({str(tmp_path / 'features.arrays')!r})); "
        "f = s.features(np.array([0]), np.array([[1, 2]]), Context(s.now)); "
        "print([m for m in ('polars', 'scipy', 'torch', 'sklearn', 'pyarrow') if m in sys.modules], f.shape[2])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=True)
    assert done.stdout.split() == ["[]", str(len(snapshot.spec.features))]


def test_definitions_survive_json_and_explain_themselves():
    spec = make_world(2)[0]
    again = FeatureSpec.from_json(orjson.loads(orjson.dumps(spec.to_json())))
    assert again == spec
    assert len(set(spec.names)) == len(spec.names)
    assert all(
        f.meaning and f.formula and f.group in ("user", "item", "author", "pair", "context") for f in spec.features
    )


def test_a_dataset_of_pairs_alone_still_has_features():
    from recsys_cli.data.ragged import Ragged
    from recsys_cli.features.config import FeatureConfig

    _, catalogue, log, _ = make_world(4)
    bare = replace(
        catalogue,
        n_authors=0,
        item_author=np.full(ITEMS, -1, np.int32),
        item_created=np.zeros(ITEMS, np.int64),
        item_topics=Ragged.empty(ITEMS),
        item_text=Ragged.empty(ITEMS),
        item_codes={},
        item_numbers={},
        item_safety={},
        item_columns=Columns(),
        user_codes={},
        user_numbers={},
        user_columns=Columns(),
        user_created=np.zeros(USERS, np.int64),
        author_user=np.zeros(0, np.int32),
        names={},
    )
    log = replace(
        log,
        actions={"like": np.ones(len(log), bool)},
        positive_actions=("like",),
        negative_actions=(),
        dwell=None,
        surface=None,
        device=None,
        _cache={},
    )
    spec = create_spec(FeatureConfig(), bare, positive=("like",), negative=())
    table = build_table(spec, bare, log)
    assert np.isfinite(table.values).all() and spec.keys == ("user", "item", "user_item", "user:daypart")
    assert {f.family for f in spec.features} == {"rates", "recency", "sessions", "windows", "clock"}
    now = int(log.time[-1])
    got = Snapshot.build(spec, bare, log, now).features(log.user[-1:], log.item[-1:][None], Context(now))
    np.testing.assert_allclose(got[0, 0], table.values[-1], rtol=1e-5, atol=1e-5)


def test_before_anything_happened_every_counter_is_zero():
    spec, catalogue, log, _ = make_world(6)
    now = int(log.time[0])
    snapshot = Snapshot.build(spec, catalogue, log, now)
    values = snapshot.features(np.array([0, 1]), np.array([[0, 1], [2, 3]]), Context(now))
    assert np.isfinite(values).all()
    counts = [i for i, f in enumerate(spec.features) if f.measure in ("shown", "window", "decayed", "match")]
    assert len(counts) > 10 and not values[..., counts].any()
    rates = [i for i, f in enumerate(spec.features) if f.measure == "rate"]
    np.testing.assert_allclose(values[..., rates], np.log(0.05 / 0.95), rtol=1e-4)
    table = build_table(spec, catalogue, log.take(slice(0, 0)))
    assert table.values.shape == (0, len(spec.features))


@pytest.mark.parametrize("later", [0, 6 * HOUR], ids=["at once", "six hours later"])
def test_features_in_parts_are_those_of_a_row_an_item(served, later):
    snapshot, users, items, context = served
    context, scores = replace(context, now=context.now + later), {"als": np.full(items.shape, 2.5, np.float32)}
    whole = snapshot.features(users, items, context, scores)
    parts = snapshot.parts(users, items, context, scores, snapshot.spec.names)
    there = items >= 0
    assert {*parts.plan.head, *parts.plan.pairs, *parts.plan.items} == set(snapshot.spec.names)
    for f in snapshot.spec.features:
        np.testing.assert_allclose(
            parts.column(f.name)[there], whole[..., snapshot.spec.column[f.name]][there], rtol=1e-6, atol=1e-6,
            err_msg=f.name,
        )
    # what nobody asks anew is most of what is known of items
    assert {"item_age", "item_trend"} <= set(parts.plan.pairs) and len(parts.plan.items) > 20


def test_one_surface_for_all_gives_what_each_of_its_own_gives(served):
    snapshot, users, items, context = served
    name = ("item_surface_negative_logodds", "item_surface_impressions")
    one_for_all = replace(context, surface=np.ones(5, np.int16))
    found = snapshot.features(users, items, one_for_all, columns=name)
    for b in range(5):
        mixed = replace(context, surface=np.where(np.arange(5) == b, 1, 0).astype(np.int16))
        np.testing.assert_array_equal(snapshot.features(users, items, mixed, columns=name)[b], found[b])


@pytest.mark.parametrize("slots", [2**20, 3], ids=["all kept", "three places"])
def test_what_follows_from_an_item_is_worked_out_once_where_it_is_kept(slots):
    asked: list[set[int]] = []

    def compute(items: np.ndarray) -> np.ndarray:
        asked.append(set(items.tolist()))
        return np.stack([items, items * 10], axis=1).astype(np.float32)

    values = ItemValues(21, 2, compute, most=slots * 8)
    rng = np.random.default_rng(0)
    for _ in range(30):
        items = rng.integers(-1, 20, (3, 4))
        np.testing.assert_array_equal(values.take(items), np.stack([items, items * 10], axis=2))
    if slots > 21:
        assert sum(map(len, asked)) == len(set().union(*asked))


def test_threads_that_ask_at_once_get_the_same():
    values = ItemValues(2001, 1, lambda items: items[:, None].astype(np.float32), most=4 * 64)
    rng = np.random.default_rng(1)
    wanted = [rng.integers(-1, 2000, 300) for _ in range(60)]
    with ThreadPoolExecutor(4) as pool:
        for items, found in zip(wanted, pool.map(values.take, wanted), strict=True):
            np.testing.assert_array_equal(found[:, 0], items)
