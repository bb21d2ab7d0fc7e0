"""Processes that serve some of the users each know what all of them served, and tell what went wrong in one of them."""

from __future__ import annotations

import functools
import os
from multiprocessing import Pipe
from threading import Thread

import numpy as np
import pytest

from recsys_cli.errors import DataError, RecsysError
from recsys_cli.experiments.shards import MOST, USERS, Processes, Shards, shards_of


def served(shard: int):
    return np.array([shard]), np.full((1, 2), shard, np.int32), {"utility": np.full((1, 2), 0.5)}, {"new": shard}


def test_every_shard_is_served_by_one_process_and_every_user_has_a_shard():
    for processes in (1, 2, 3):
        own = [shard for place in range(processes) for shard in Shards(4, place, processes).own]
        assert sorted(own) == [0, 1, 2, 3]
    shard = Shards(3).of(np.arange(90))
    assert np.bincount(shard).tolist() == [30, 30, 30]
    assert [shards_of(n) for n in (5, USERS - 1, 2 * USERS, 100 * USERS)] == [1, 1, 2, MOST]


def test_all_processes_learn_what_all_of_them_served_in_the_order_of_the_shards():
    mine, theirs = Pipe()
    leader, led = Shards(3, 0, 2, (mine,)), Shards(3, 1, 2, (theirs,))
    found = {}
    other = Thread(target=lambda: found.update(led=led.gather({s: served(s) for s in led.own})))
    other.start()
    found["leader"] = leader.gather({s: served(s) for s in leader.own})
    other.join(10)
    for parts in found.values():
        assert [int(part[0][0]) for part in parts] == [0, 1, 2] and [part[3]["new"] for part in parts] == [0, 1, 2]


def fails(kind: str, shards: Shards) -> None:
    if kind == "raises":
        raise DataError("no such table", "name another")
    os._exit(9)


@pytest.mark.parametrize(("kind", "error", "told"), [
    ("raises", DataError, "no such table"), ("dies", RecsysError, "served some of the users ended"),
])
def test_a_process_that_fails_is_told(kind, error, told):
    with Processes(functools.partial(fails, kind), 2, 2) as shards, pytest.raises(error, match=told):
        shards.gather({0: served(0)})
