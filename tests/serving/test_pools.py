"""Pools between requests: bounds, ages, queues, and nobody waits for long."""

import asyncio
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.serving.arms import Arms
from recsys_cli.serving.config import PoolConfig
from recsys_cli.serving.pooling import Pool
from recsys_cli.serving.pools import OLD_AT_ONCE, WARM_AT_ONCE, PoolCache, Pools
from recsys_cli.serving.recall import Remembered, Requests
from recsys_cli.serving.served_memory import ServedMemory
from recsys_cli.serving.structs import Ask, SessionAsk
from recsys_cli.serving.workers import BuildError, Job


def pool_of(user: int, size: int = 10) -> Pool:
    return Pool(np.full(size, user, np.int32), np.zeros(size, np.uint32), {"utility": np.zeros(size, np.float32)})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class HandBuilder:
    """Builds when it is told to."""

    def __init__(self):
        self.asked: list[tuple[list[Job], Future]] = []

    def submit(self, jobs):
        self.asked.append((jobs, Future()))
        return self.asked[-1][1]

    def finish(self, at=-1, error=None):
        jobs, future = self.asked[at]
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result([pool_of(job.user) for job in jobs])


def run(test, **config):
    """A test on an event loop, with pools built by hand."""

    async def within():
        builder = HandBuilder()
        pools = Pools(PoolConfig(**config), [builder])
        try:
            await test(pools, builder)
        finally:
            pools.close()

    asyncio.run(within())


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60_000)), max_size=60))
def test_the_cache_never_holds_more_than_its_bytes_and_counts_them_right(puts):
    cache = PoolCache(PoolConfig(memory_mb=1), Clock())
    sizes = {}
    for key, size in puts:
        cache.put(key, pool_of(key, size))
        sizes[key] = pool_of(key, size).nbytes
        held = cache.keys()
        assert cache.nbytes == sum(sizes[k] for k in held)
        assert cache.nbytes <= 2**20 or len(held) == 1
        assert held[-1] == key


def test_the_least_recently_used_goes_first():
    cache = PoolCache(PoolConfig(memory_mb=1), Clock())
    for key in range(3):
        cache.put(key, pool_of(key, 20_000))
    cache.get(0)
    cache.put(3, pool_of(3, 20_000))
    assert cache.keys() == [2, 0, 3]


def test_an_old_pool_serves_until_it_is_too_old():
    clock = Clock()
    cache = PoolCache(PoolConfig(seconds=10, stale_seconds=100), clock)
    cache.put("a", pool_of(1))
    assert cache.get("a")[1] is False
    clock.now = 11
    assert cache.get("a")[1] is True
    clock.now = 101
    assert cache.get("a") is None and not cache.nbytes


def test_whoever_asks_for_the_same_pool_waits_for_one():
    async def test(pools, builder):
        waiting = [asyncio.create_task(pools.get("u", lambda: Job(7), 5)) for _ in range(3)]
        await settle()
        assert len(builder.asked) == 1 and len(builder.asked[0][0]) == 1
        builder.finish()
        assert [p.items[0] for p in await asyncio.gather(*waiting)] == [7, 7, 7]
        assert (await pools.get("u", lambda: Job(8), 0)).items[0] == 7

    run(test)


def test_nobody_waits_longer_than_they_may_and_the_pool_is_there_the_next_time():
    async def test(pools, builder):
        assert await pools.get("u", lambda: Job(7), 0.01) is None
        builder.finish()
        await asyncio.sleep(0.01)
        assert (await pools.get("u", lambda: Job(7), 0)).items[0] == 7

    run(test)


def test_an_old_pool_is_answered_at_once_and_built_again_behind_whoever_has_none():
    async def test(pools, builder):
        clock = pools.cache._clock = Clock()
        pools.cache.put("old", pool_of(1))
        clock.now = 20
        busy = asyncio.create_task(pools.get("busy", lambda: Job(0), 5))
        await settle()
        assert (await pools.get("old", lambda: Job(2), 5)).items[0] == 1
        new = asyncio.create_task(pools.get("new", lambda: Job(3), 5))
        await settle()
        builder.finish(0)
        await asyncio.sleep(0.01)
        assert [job.user for job in builder.asked[1][0]] == [3]  # what is old makes nobody wait
        builder.finish(1)
        await asyncio.gather(busy, new)
        await settle()
        assert [job.user for job in builder.asked[2][0]] == [2]
        builder.finish(2)
        await settle()
        await asyncio.sleep(0.01)
        assert pools.cache.get("old")[0].items[0] == 2

    run(test, seconds=10, stale_seconds=100)


def test_what_is_built_again_takes_its_share_of_the_time_and_comes_a_few_at_a_time():
    async def test(pools, builder):
        for user in range(OLD_AT_ONCE + 1):
            pools.refresh(user, lambda u=user: Job(u))
        await settle()
        assert [job.user for job in builder.asked[0][0]] == list(range(OLD_AT_ONCE))
        await asyncio.sleep(0.05)
        builder.finish(0)
        await asyncio.sleep(0.1)  # a quarter of the time: after 50 ms of work come 150 ms of rest
        assert len(builder.asked) == 1
        new = asyncio.create_task(pools.get("new", lambda: Job(9), 5))
        await settle()
        assert [job.user for job in builder.asked[1][0]] == [9]  # somebody without a pool waits for no rest
        builder.finish(1)
        await new
        await asyncio.sleep(0.1)
        assert [job.user for job in builder.asked[2][0]] == [OLD_AT_ONCE]

    run(test, refresh_share=0.25)


def test_a_full_queue_answers_none_at_once_but_makes_room_for_those_who_have_no_pool():
    async def test(pools, builder):
        running = asyncio.create_task(pools.get(0, lambda: Job(0), 5))
        await settle()
        waiting = [asyncio.create_task(pools.get(1, lambda: Job(1), 5))]
        await settle()
        pools.refresh("old", lambda: Job(9))
        waiting.append(asyncio.create_task(pools.get(2, lambda: Job(2), 5)))
        await settle()
        assert pools.waiting == 2
        assert await pools.get(3, lambda: Job(3), 5) is None
        builder.finish(0)
        await asyncio.sleep(0.01)
        builder.finish(1)
        assert [p.items[0] for p in await asyncio.gather(running, *waiting)] == [0, 1, 2]

    run(test, queue=2)


def test_what_cannot_be_built_is_told_and_tried_again(monkeypatch):
    monkeypatch.setattr("recsys_cli.serving.pools.PAUSE", 0.01)

    async def test(pools, builder):
        waiting = asyncio.create_task(pools.get(1, lambda: Job(1), 5))
        await settle()
        builder.finish(error=BuildError("it broke"))
        assert await waiting is None and pools.failure == "it broke"
        again = asyncio.create_task(pools.get(1, lambda: Job(1), 5))
        await asyncio.sleep(0.03)
        builder.finish()
        assert (await again).items[0] == 1 and pools.failure is None

    run(test)


def test_whoever_waits_when_the_server_stops_is_let_go():
    async def test(pools, builder):
        waiting = [asyncio.create_task(pools.get(k, lambda k=k: Job(k), 5)) for k in range(3)]
        await settle()
        pools.close()
        assert await asyncio.gather(*waiting) == [None, None, None]

    run(test, batch_size=1)


def test_what_was_served_is_remembered_for_its_time_and_in_its_number():
    clock = Clock()
    memory = ServedMemory(10, 5, clock)
    memory.add("u", np.array([1, 2, 3]))
    clock.now = 5
    memory.add("u", np.array([4, 5]))
    assert np.concatenate(memory.of("u")).tolist() == [1, 2, 3, 4, 5]
    memory.add("u", np.array([6]))
    assert np.concatenate(memory.of("u")).tolist() == [4, 5, 6]
    clock.now = 15.5
    assert not memory.of("u")
    assert not ServedMemory(0, 5, clock).of("u")


def test_served_items_keep_their_names_when_the_run_is_switched():
    memory = ServedMemory(10, 5, Clock())
    memory.add("u", np.array([1, 2, 3]))
    memory.translate(lambda items: np.where(items == 2, -1, items + 10))
    assert memory.of("u")[0].tolist() == [11, 13]


def test_a_request_that_is_gone_on_from_is_what_was_put_and_remembers_what_is_changed():
    ask = Ask(n=3, context={"hour": 4, "place": "home"}, exclude=["7", 8], pipeline={"slate_size": 5})
    arms = Arms({"e": "v"}, '{"a": 1}', "run-b", "e=v")
    shown = [np.array([4, 5], np.int32)]
    of_user = Remembered("u", ("u", '{"a": 1}', (("hour", "4"),)), "run-b", ask, shown, served=False, arms=arms)
    of_session = Remembered(None, ("", (3, 9), ()), None, SessionAsk(items=["3", 9], explain=True))
    requests = Requests(10)
    for name, request in (("a", of_user), ("b", of_session)):
        requests.put(name, request)
        found = requests.get(name)
        assert found is not request and found.shown is not request.shown
        np.testing.assert_array_equal(np.concatenate([*found.shown, []]), np.concatenate([*request.shown, []]))
        assert replace(found, shown=[]) == replace(request, shown=[])
        found.shown.append(np.array([6], np.int32))
        assert requests.get(name).shown[-1].tolist() == [6]


@pytest.mark.parametrize("most", [1, 3])
def test_the_oldest_requests_are_forgotten_first(most):
    requests = Requests(most)
    for i in range(5):
        requests.put(str(i), Remembered("u", ("u", "", ()), None, Ask()))
    assert [str(i) for i in range(5) if requests.get(str(i))] == [str(i) for i in range(5)][-most:]
    assert requests.forget("u") == most and requests.get("4") is None


def test_warming_up_ends_in_time_and_what_is_missing_then_does_not_hold_up_who_asks():
    async def test(pools, builder):
        jobs = {k: (lambda k=k: Job(k)) for k in range(3 * WARM_AT_ONCE)}
        warming = asyncio.create_task(pools.warm(jobs, 0.05))
        await settle()
        assert len(builder.asked[0][0]) == WARM_AT_ONCE
        builder.finish()
        await asyncio.wait_for(warming, 5)
        assert len(pools.cache) == WARM_AT_ONCE and pools.waiting == WARM_AT_ONCE
        asked = asyncio.create_task(pools.get(1_000, lambda: Job(1_000), 5))
        await settle()
        builder.finish()  # the batch that was under way
        await settle()
        assert [job.user for job in builder.asked[-1][0]] == [1_000], "who waits comes before what nobody asked for"
        builder.finish()
        assert (await asked).items[0] == 1_000
        await settle()
        assert len(builder.asked[-1][0]) == OLD_AT_ONCE

    run(test, batch_size=8)
