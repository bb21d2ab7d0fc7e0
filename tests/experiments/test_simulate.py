"""The parts of a simulated experiment against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.errors import RecsysError
from recsys_cli.experiments.arm_life import _rounds, _slate_sums, outcomes, with_seen
from recsys_cli.experiments.second_process import SecondProcess


@pytest.fixture(scope="module")
def data(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    now = int(dataset.log.time[0]) + 4 * DAY
    return dataset, State.build(dataset.catalogue, dataset.log, now)


def test_what_was_shown_counts_as_seen_at_once(data):
    dataset, state = data
    rng = np.random.default_rng(0)
    users = rng.permutation(60)[:25]
    items = np.stack([rng.permutation(120)[:6] for _ in users]).astype(np.int32)
    items[3, 4:] = -1
    row, column = np.nonzero(items >= 0)
    past = dataset.log.window(end=state.now)
    both = (np.concatenate([past.user, users[row]]), np.concatenate([past.item, items[row, column]]))
    got = with_seen(state, users, items)
    for user in range(60):
        assert got.seen[user].tolist() == np.unique(both[1][both[0] == user]).tolist()
    assert got.history is state.history


def test_nothing_shown_leaves_the_state_as_it_was(data):
    _, state = data
    got = with_seen(state, np.zeros(0, np.int32), np.zeros((0, 5), np.int32))
    assert np.array_equal(got.seen.values, state.seen.values) and np.array_equal(got.seen.offsets, state.seen.offsets)


def test_rounds_take_one_request_of_each_user_in_order():
    users = np.array([3, 3, 3, 5, 8, 8])
    assert [r.tolist() for r in _rounds(users)] == [[0, 3, 4], [1, 5], [2]]
    assert list(_rounds(users[:0])) == []


def test_outcomes_are_sums_over_the_rows_of_a_user(data):
    log: Log = replace(data[0].log, _cache={})
    got = outcomes(log, 60)
    for user in (0, 17, 59):
        mine = log.user == user
        assert got["impressions"][user] == mine.sum() and got["click"][user] == log.actions["click"][mine].sum()
        actions = np.stack([log.actions[a][mine] for a in log.positive_actions])
        assert got["engagement"][user] == actions.sum() and got["interactions"][user] == actions.any(axis=0).sum()
        assert got["negative"][user] == log.actions["hide"][mine].sum()
        assert got["dwell"][user] == pytest.approx(log.dwell[mine].sum(), rel=1e-5)


def test_distinct_topics_and_authors_are_counted_within_each_slate(data):
    catalogue = data[1].catalogue
    rng = np.random.default_rng(2)
    users = np.array([4, 4, 9])
    items = np.stack([rng.permutation(120)[:8] for _ in users]).astype(np.int32)
    items[2, 1:] = -1
    got = _slate_sums(items, users, 60, catalogue)
    for user in (4, 9, 10):
        slates = [row[row >= 0] for row in items[users == user]]
        assert got["slates"][user] == len(slates)
        assert got["authors"][user] == sum(len(set(catalogue.item_author[s].tolist())) for s in slates)
        topics = [{t for i in s for t in catalogue.item_topics[i].tolist()} for s in slates]
        assert got["topics"][user] == sum(map(len, topics))


def test_work_elsewhere_comes_back_and_so_do_its_errors():
    with SecondProcess(int) as other:
        assert other.result() == 0
    with SecondProcess(_refuse) as other, pytest.raises(RecsysError, match="no such arm") as error:
        other.result()
    assert error.value.hint == "try another"
    with SecondProcess(_die) as other, pytest.raises(RecsysError, match="ended with code 3"):
        other.result()


def _refuse():
    raise RecsysError("no such arm", "try another")


def _die():
    import os

    os._exit(3)
