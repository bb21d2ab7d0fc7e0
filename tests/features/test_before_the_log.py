"""Counts of what people did before the log begins: by hand, in both lives, and without looking ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from feature_worlds import with_before

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.writer import write_dataset
from recsys_cli.features.build import build_table
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.context import Context
from recsys_cli.features.define import create_spec
from recsys_cli.features.families.prior_tastes import taste_vectors
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.testing.small_world import ITEMS, USERS


def test_the_log_does_not_change_them():
    spec, catalogue, log = with_before(4)
    at = [i for i, f in enumerate(spec.features) if f.family == "prior_history"]
    whole = build_table(spec, catalogue, log).values[:40, at]
    turned = replace(log, actions={k: ~v for k, v in log.actions.items()}, _cache={})
    np.testing.assert_array_equal(whole, build_table(spec, catalogue, turned).values[:40, at])


def test_batches_unknown_people_and_a_file_give_the_same(tmp_path):
    spec, catalogue, log = with_before(5)
    snapshot = Snapshot.build(spec, catalogue, log, int(log.time[-1]) + 1)
    save_arrays(tmp_path / "snapshot.bin", *snapshot.to_arrays())
    save_arrays(tmp_path / "catalogue.bin", *catalogue.to_arrays())
    again = Snapshot.from_arrays(*load_arrays(tmp_path / "snapshot.bin"))
    restored = Catalogue.from_arrays(*load_arrays(tmp_path / "catalogue.bin"))
    assert list(restored.before) == list(catalogue.before)
    assert all(np.array_equal(restored.before[a].values, rows.values) for a, rows in catalogue.before.items())
    users, context = np.array([2, -1, 5], np.int32), Context(snapshot.now)
    items = np.random.default_rng(0).integers(-1, ITEMS, (3, 8)).astype(np.int32)
    values = snapshot.features(users, items, context)
    np.testing.assert_array_equal(again.features(users, items, context), values)
    for b in range(3):
        np.testing.assert_array_equal(snapshot.features(users[b : b + 1], items[b : b + 1], context)[0], values[b])
    counts = [i for i, f in enumerate(spec.features) if f.key == "prior_user_author"]
    assert not values[1][:, counts].any() and values[[0, 2]][..., counts].any()


def test_without_the_base_action_there_are_counts_and_no_shares():
    spec, _, _ = with_before(6, base="seen")
    features = [f for f in spec.features if f.family == "prior_history"]
    assert {f.measure for f in features} == {"count"} and {f.argument for f in features} == {"like", "seen"}


def test_the_table_is_read_in_the_order_of_rank_and_strangers_are_left_out(tiny_dataset, tmp_path):
    tiny = Dataset.open(tiny_dataset)
    users, items = tiny.users["user_id"].to_list(), tiny.items["item_id"].to_list()
    told = [(users[1], items[4], "watch", 1), (users[1], items[9], "watch", 0), (users[3], items[4], "like", 0)]
    strangers = [(1, items[2], "watch", 0), (users[2], "nothing", "like", 0)]
    history = pl.DataFrame(told + strangers, schema=["user_id", "item_id", "action", "rank"], orient="row")
    tables = {name: tiny.table(name) for name in tiny.manifest.tables}
    actions = {action: info.polarity for action, info in tiny.manifest.actions.items()}
    write_dataset(tmp_path / "data", "tiny", tables | {"history": history}, actions, authors_are_users=True)
    before = Dataset.open(tmp_path / "data").catalogue.before
    assert list(before) == ["like", "watch"]
    assert before["watch"][1].tolist() == [9, 4] and before["like"][3].tolist() == [4]
    assert sum(len(rows.values) for rows in before.values()) == 3


def test_tastes_are_a_singular_value_decomposition_of_who_did_what():
    _, catalogue, log = with_before(5)
    config = FeatureConfig(before_taste_dims=2, before_tastes=("watch", "dream"))
    spec = create_spec(config, catalogue, positive=log.positive_actions, negative=log.negative_actions)
    names = [f.name for f in spec.features if f.family == "prior_tastes"]
    assert names == ["before_watch_dot", "before_watch_cosine"]
    did = np.zeros((USERS, ITEMS))
    rows = catalogue.before["watch"]
    did[rows.rows, rows.values] = 1
    of_user, of_item = (np.maximum(did.sum(axis=a), 1) for a in (1, 0))
    left, strength, right = np.linalg.svd(did / np.sqrt(of_user[:, None] * of_item))
    mine, theirs = left[:, :2] * strength[:2], right[:2].T
    dot = mine @ theirs.T * np.sqrt(of_item)
    length = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(theirs, axis=1)
    table = build_table(spec, catalogue, log)
    at = log.user, log.item
    for name, expected_values in (("dot", dot), ("cosine", dot / np.sqrt(of_item) / length)):
        got = table.values[:, spec.column[f"before_watch_{name}"]]
        np.testing.assert_allclose(got, expected_values[at], rtol=1e-3, atol=1e-5)
    snapshot = Snapshot.build(spec, catalogue, log, int(log.time[-1]) + 1)
    arrays, meta = snapshot.to_arrays()
    users, items = np.array([0, -1], np.int32), np.array([[0, 3, -1], [1, 2, 3]], np.int32)
    for s in (snapshot, Snapshot.from_arrays(arrays, meta)):
        values = s.features(users, items, Context(snapshot.now), columns=tuple(names))
        np.testing.assert_allclose(values[0, :2, 0], dot[0, [0, 3]], rtol=1e-3, atol=1e-5)
        assert not values[0, 2].any() and not values[1].any()


def test_making_tastes_leaves_the_table_of_history_alone():
    _, catalogue, _ = with_before(5)
    before = catalogue.before["watch"].offsets.copy(), catalogue.before["watch"].values.copy()
    assert taste_vectors(catalogue, ("watch",), 2)["watch/users"].any()
    np.testing.assert_array_equal(catalogue.before["watch"].offsets, before[0])
    np.testing.assert_array_equal(catalogue.before["watch"].values, before[1])
