"""What counts as found, and the lists that need no ranking, on a world small enough to work by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chisquare

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.data.windows.windows import Split, Windows
from recsys_cli.errors import DataError
from recsys_cli.evaluation.batch_lists import Served
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.evaluation.lists import Popularity, Random, System, source_lists, without_seen
from recsys_cli.evaluation.period import remarks, truth_of_test
from recsys_cli.evaluation.repetition import by_repetition
from recsys_cli.evaluation.truth import find_truth
from recsys_cli.pipeline.config import PipelineConfig

CUT = 6


@pytest.fixture(scope="module")
def data(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    start = int(dataset.log.time[0]) + CUT * DAY
    return dataset, State.build(dataset.catalogue, dataset.log, start), start


def by_hand(dataset, start, reachable):
    log = dataset.log
    before, after, found = {}, {}, {}
    for user, item, time, positive in zip(
        log.user.tolist(), log.item.tolist(), log.time.tolist(), log.positive, strict=True
    ):
        if positive:
            (before if time < start else after).setdefault(user, set()).add(item)
    for user, items in after.items():
        new = items - before.get(user, set())
        if reachable:
            new = {i for i in new if dataset.catalogue.item_created[i] < start}
        if new:
            found[user] = new
    return after, before, found


@pytest.mark.parametrize("count", ["reachable", "all"])
def test_truth_is_what_a_plain_loop_finds(data, count):
    dataset, state, start = data
    truth = find_truth(dataset.log, state, start, int(dataset.log.time[-1]) + 1, count)
    after, before, found = by_hand(dataset, start, count == "reachable")
    assert {int(u): set(truth.relevant[i].tolist()) for i, u in enumerate(truth.users)} == found
    pairs = [(u, i) for u, items in after.items() for i in items]
    known = [(u, i) for u, i in pairs if i in before.get(u, set())]
    assert truth.summary["interactions"] == len(pairs) and truth.summary["repeated"] == len(known)
    late = [p for p in pairs if p not in known and dataset.catalogue.item_created[p[1]] >= start]
    assert truth.summary["not_yet_published"] == len(late) > 0
    assert truth.summary["relevant"] == sum(map(len, found.values()))
    assert truth.summary["users"] == len(found) and truth.summary["users_active"] == len(after)


def test_what_no_list_may_hold_is_not_to_be_found(data):
    dataset, state, start = data
    end = int(dataset.log.time[-1]) + 1
    every, fewer = (find_truth(dataset.log, state, start, end, never_again=n) for n in (False, True))
    past = dataset.log.window(end=start)
    shown = set(zip(past.user.tolist(), past.item.tolist(), strict=True))
    _, _, found = by_hand(dataset, start, True)
    open_to = {u: {i for i in items if (u, i) not in shown} for u, items in found.items()}
    got = {int(u): set(fewer.relevant[i].tolist()) for i, u in enumerate(fewer.users)}
    assert got == {u: items for u, items in open_to.items() if items}
    left_out = len(every.relevant.values) - len(fewer.relevant.values)
    assert fewer.summary["seen_before"] == fewer.summary["seen_left_out"] == left_out > 0
    assert every.summary["seen_before"] == left_out and every.summary["seen_left_out"] == 0


def test_nothing_to_find_is_told_with_what_became_of_it(data):
    dataset, _, _ = data
    end = int(dataset.log.time[-1]) + 3
    windows = Windows(start=0, history_end=1, validation_start=2, test_start=end - 1, end=end)
    log = dataset.log.take(np.r_[np.arange(len(dataset.log)), len(dataset.log) - 1])
    log.actions["like"][-2:] = True  # the last row twice: once before the window, once in it
    log.time[-2:] = end - 2, end - 1
    state = State.build(dataset.catalogue, log, end - 1)
    engine = SimpleNamespace(pipeline=PipelineConfig(), repeats=False)
    with pytest.raises(DataError, match=r"nothing is to be found .* of 1 pairs of user and item 1 were known before"):
        truth_of_test(engine, dataset, Split("time", log, windows), state, EvaluationConfig())


def test_readers_are_told_where_most_or_all_are_unknown(data):
    dataset, state, start = data
    truth = find_truth(dataset.log, state, start, int(dataset.log.time[-1]) + 1)
    known = truth.users[:2]
    empty = State.build(dataset.catalogue, dataset.log, 0)
    few = State.build(dataset.catalogue, dataset.log.take(np.isin(dataset.log.user, known)), start)
    assert remarks(truth, state) == []
    assert remarks(truth, few)[0].startswith(f"most test users, {len(truth.users) - 2} of {len(truth.users)},")
    assert remarks(truth, empty)[0].startswith("no test user has a history")


def test_the_measured_list_is_the_slate_then_the_rest_of_the_ranking():
    served = Served.empty(2, 6, 3)
    ranked = np.array([[7, 1, 2, 3, 4, 5], [8, 9, -1, -1, -1, -1]])
    slates = np.array([[7, 30, 2], [9, -1, -1]])
    batch = SimpleNamespace(
        users=np.arange(2), items=slates, sources=np.zeros((2, 3), np.uint32), ranked=SimpleNamespace(items=ranked)
    )
    served.put(np.array([1, 0]), Served.of(batch, 6, 3))
    assert served.lists.tolist() == [[9, -1, -1, 8, -1, -1], [7, 30, 2, 1, 3, 4]]


def test_some_users_of_a_truth(data):
    dataset, state, start = data
    truth = find_truth(dataset.log, state, start, int(dataset.log.time[-1]) + 1)
    some = truth.take(np.array([1, 4]))
    assert some.users.tolist() == truth.users[[1, 4]].tolist()
    assert [some.relevant[i].tolist() for i in (0, 1)] == [truth.relevant[i].tolist() for i in (1, 4)]


def test_seen_items_are_dropped_in_place(data):
    _, state, _ = data
    user = int(np.argmax(state.seen.lengths))
    seen = state.seen[user][:3].tolist()
    new = np.setdiff1d(np.arange(state.catalogue.n_items), state.seen[user])[:3].tolist()
    mixed = [seen[0], new[0], -1, new[1], seen[1], new[2]]
    got = without_seen(state, np.array([user, -1]), np.array([mixed, mixed], np.int32), 5)
    assert got[0].tolist() == [*new, -1, -1]
    assert got[1].tolist() == [seen[0], new[0], new[1], seen[1], new[2]]


def test_popularity_is_the_most_interacted_unseen_items(data):
    _, state, _ = data
    users = np.arange(-1, 20)
    lists = Popularity(state)(users, 8)
    for user, row in zip(users.tolist(), lists.tolist(), strict=True):
        seen = set() if user < 0 else set(state.seen[user].tolist())
        ranked = sorted(np.flatnonzero(state.available).tolist(), key=lambda i: (-state.interactions[i], i))
        assert row == [i for i in ranked if i not in seen][:8]


def test_random_lists_are_uniform_over_unseen_available_items_without_repetition(data):
    _, state, _ = data
    make = Random(state, seed=1)
    user = 3
    unseen = np.setdiff1d(np.flatnonzero(state.available), state.seen[user])
    counts = np.zeros(state.catalogue.n_items)
    for _ in range(400):
        row = make(np.array([user]), 5)[0]
        assert len(set(row.tolist())) == 5 and np.isin(row, unseen).all()
        counts[row] += 1
    assert chisquare(counts[unseen]).pvalue > 0.001


def test_a_source_alone_is_asked_deep_enough_to_leave_k_unseen_items(data):
    _, state, _ = data

    class Alphabetical:
        def retrieve(self, state, users, k):
            items = np.flatnonzero(state.available)[:k].astype(np.int32)
            return np.tile(items, (len(users), 1)), np.zeros((len(users), k), np.float32)

    users = np.array([0, 5, 9])
    for user, row in zip(users, source_lists(Alphabetical(), state, users, 10), strict=True):
        expected = np.setdiff1d(np.flatnonzero(state.available), state.seen[user])[:10]
        assert row[: len(expected)].tolist() == expected.tolist() and (row[len(expected) :] == -1).all()


def test_a_log_without_new_interactions_has_no_truth(data):
    dataset, state, start = data
    log = dataset.log.window(end=start)
    truth = find_truth(log, state, start, start + DAY)
    assert not len(truth.users) and not len(truth.relevant) and truth.summary["relevant"] == 0
    assert isinstance(log, Log)


def repeated_log():
    """User 0 had 1 and 2 and turns to 1 and 3; user 1 had 4 and turns to it; user 2 is new and turns to 5."""
    rows = [(0, 1, 1), (0, 2, 2), (1, 4, 3), (0, 1, 10), (0, 3, 11), (1, 4, 12), (2, 5, 13)]
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    return Log(
        user=user.astype(np.int32), item=item.astype(np.int32), time=time.astype(np.int64),
        actions={"like": np.ones(len(rows), bool)}, positive_actions=("like",), negative_actions=(),
    )  # fmt: skip


def test_repeats_are_to_be_found_where_lists_may_hold_them(data):
    _, state, _ = data
    log, catalogue = repeated_log(), replace(state.catalogue, item_created=np.zeros_like(state.catalogue.item_created))
    before = State.build(catalogue, log, 10)
    new = find_truth(log, before, 10, 20, never_again=True)
    assert new.users.tolist() == [0, 2] and new.relevant.values.tolist() == [3, 5] and new.repeated is None
    both = find_truth(log, before, 10, 20, repeats=True)
    assert both.users.tolist() == [0, 1, 2] and both.relevant.values.tolist() == [1, 3, 4, 5]
    assert both.repeated.tolist() == [True, False, True, False]
    assert both.summary["repeated"] == 2 and both.summary["relevant"] == 4
    assert both.take(np.array([1])).repeated.tolist() == [True]
    again = both.only(both.repeated)
    assert again.users.tolist() == [0, 1] and again.relevant.values.tolist() == [1, 4]


def test_figures_for_new_items_repeats_and_both_are_of_the_same_lists(data):
    _, state, _ = data
    log, catalogue = repeated_log(), replace(state.catalogue, item_created=np.zeros_like(state.catalogue.item_created))
    truth = find_truth(log, State.build(catalogue, log, 10), 10, 20, repeats=True)
    lists = np.array([[3, 1], [9, 8], [5, 6]], np.int32)
    new, again, both = by_repetition(truth, [System("pipeline", "funnel", {2: lists})], 2, resamples=100, seed=0)
    value = {row["of"]: row["systems"]["funnel"]["recall@2"]["value"] for row in (new, again, both)}
    assert value == {"new items": 1.0, "repeats": 0.5, "both": pytest.approx(2 / 3)}
    assert again["systems"]["funnel"]["ndcg@2"]["value"] == pytest.approx(0.5 / np.log2(3))
    assert [row["users"] for row in (new, again, both)] == [2, 2, 3]
    none = find_truth(log, State.build(catalogue, log, 10), 10, 20)
    assert by_repetition(none, [], 2, resamples=100, seed=0) == []


def test_lists_hold_what_was_seen_where_they_may(data):
    _, state, _ = data
    users = np.array([0, 1], np.int32)
    for baseline in (Popularity(state, repeats=True), Random(state, 0, repeats=True)):
        items = baseline(users, 40)
        assert items.shape == (2, 40) and all(len(set(row)) == 40 for row in items.tolist())
    top = Popularity(state, repeats=True)(users, 5)
    assert (top[0] == top[1]).all() and (np.diff(state.interactions[top[0]]) <= 0).all()
