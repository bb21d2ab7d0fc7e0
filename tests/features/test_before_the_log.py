"""Counts of what people did before the log begins: by hand, in both lives, and without looking ahead."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_features_as_of import ITEMS, USERS, make_world

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.writer import write_dataset
from recsys_cli.features.build import build_table
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.context import Context
from recsys_cli.features.define import create_spec
from recsys_cli.features.families.prior_tastes import taste_vectors
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import FeatureSpec


def with_before(seed: int, base: str = "watch"):
    """`make_world` with a table of watched and liked items, some watched twice."""
    spec, catalogue, log, _ = make_world(seed)
    rng = np.random.default_rng(seed + 1)
    users = {base: rng.integers(0, USERS, 60), "like": rng.integers(0, USERS, 12)}
    items = {a: rng.integers(0, ITEMS, len(u)).astype(np.int32) for a, u in users.items()}
    before = {a: Ragged.group(users[a], items[a], USERS) for a in users}
    catalogue = replace(catalogue, before=before)
    spec = create_spec(
        spec.config, catalogue, positive=log.positive_actions, negative=log.negative_actions, has_dwell=True,
        surfaces=["home", "search"], devices=["a", "b", "c"], context=log.context,
    )
    return spec, catalogue, log


def rows_of(catalogue: Catalogue, spec: FeatureSpec, source: str, user: int, item: int, action: str) -> list[tuple]:
    """The (user, item) rows of an action that share a key, one entry a shared key."""

    def keys(u: int, i: int) -> list:
        author = int(catalogue.item_author[i])
        media, seconds = int(catalogue.item_codes["media_type"][i]), catalogue.item_numbers["duration_seconds"][i]
        length = None if np.isnan(seconds) else sum(edge <= seconds for edge in spec.config.length_edges_seconds)
        topics = catalogue.item_topics[i][: spec.config.max_topics].tolist()
        if source in ("topic", "user_topic"):
            return [(t, u if source == "user_topic" else None) for t in topics]
        return {
            "user": [u], "item": [i], "author": [author] if author >= 0 else [],
            "user_author": [(u, author)] if author >= 0 else [], "user_item": [(u, i)],
            "user_format": [] if media < 0 and length is None else [(u, media, length)],
        }[source]

    mine, rows = set(keys(user, item)), catalogue.before[action]
    return [
        (u, int(i)) for u in range(USERS) for i in rows[u] for _ in range(len(mine & set(keys(u, int(i)))))
    ]


def expected(catalogue: Catalogue, spec: FeatureSpec, f, user: int, item: int) -> float:
    liked = {(u, int(i)) for u in range(USERS) for i in catalogue.before["like"][u]}

    def logit(p: float) -> float:
        return math.log(p / (1 - p))

    def rate(source: str) -> float:
        if source == "everything":
            watched = [(u, int(i)) for u in range(USERS) for i in catalogue.before["watch"][u]]
            return logit((sum(r in liked for r in watched) + 1) / (len(watched) + 2))
        parents = {"user_topic": ["user", "topic"], "user_format": ["user"]}.get(source, ["everything"])
        prior = sum(rate(p) for p in parents) - (len(parents) - 1) * rate("everything")
        strength = {"user": 10, "author": 20, "item": 20, "topic": 50, "user_topic": 10, "user_format": 10}[source]
        watched = rows_of(catalogue, spec, source, user, item, "watch")
        pull = strength / (1 + math.exp(-prior))
        return logit((sum(r in liked for r in watched) + pull) / (len(watched) + strength))

    source = f.key.removeprefix("prior_")
    if f.measure == "count":
        return math.log1p(len(rows_of(catalogue, spec, source, user, item, f.argument)))
    return rate(source)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.integers(0, 119))
def test_they_equal_a_count_by_hand_in_the_table_and_in_the_snapshot(seed, row):
    spec, catalogue, log = with_before(seed)
    features = [f for f in spec.features if f.family == "prior_history"]
    assert len(features) == 8 * 2 + 6
    user, item = int(log.user[row]), int(log.item[row])
    wanted = {f.name: expected(catalogue, spec, f, user, item) for f in features}
    table = dict(zip(spec.names, build_table(spec, catalogue, log, np.array([row])).values[0], strict=True))
    assert {n: table[n] for n in wanted} == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    snapshot = Snapshot.build(spec, catalogue, log, int(log.time[row]))
    more = {name: values[row : row + 1] for name, values in log.context.items()}
    context = Context(int(log.time[row]), log.surface[row : row + 1], log.device[row : row + 1], more=more)
    served = snapshot.features(log.user[row : row + 1], log.item[row : row + 1, None], context)[0, 0]
    assert dict(zip(spec.names, served, strict=True)) == pytest.approx(table, rel=1e-4, abs=2e-5)


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
