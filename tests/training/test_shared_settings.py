"""What threads of one process share: torch's stream of random numbers, and the threads of BLAS and torch."""

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from recsys_cli.parallel import one_blas_thread, torch_seed, torch_threads


def _blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def _beside(function):
    """What the function gives on another thread, while this one is where it stands."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    return thread, found


def test_each_thread_draws_what_it_would_draw_alone():
    def drawn(seed):
        with torch_seed(seed):
            return torch.cat([torch.rand(50) for _ in range(200)])

    alone = [drawn(seed) for seed in range(4)]
    together = [_beside(lambda seed=seed: drawn(seed)) for seed in range(4)]
    for thread, _ in together:
        thread.join()
    for (_, (found,)), expected in zip(together, alone, strict=True):
        assert torch.equal(found, expected)


def test_the_stream_goes_on_afterwards_as_if_nothing_had_been_drawn():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with torch_seed(9), torch_seed(1):
        inner = torch.rand(4)
    assert torch.equal(torch.rand(4), expected) and not torch.equal(inner, expected)


@pytest.mark.parametrize("first_out", ["outer", "inner"])
def test_a_block_keeps_its_one_thread_when_another_ends(first_out):
    np.ones((4, 4)) @ np.ones((4, 4))
    with threadpool_limits(2, "blas"):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert _blas_threads() == {1}
        one, other = (first, second) if first_out == "outer" else (second, first)
        one.__exit__(None, None, None)
        assert _blas_threads() == {1}
        other.__exit__(None, None, None)
        assert _blas_threads() == {2}


def test_torch_keeps_its_threads_until_the_last_block_ends():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    ready, go = threading.Event(), threading.Event()

    def other():
        with torch_threads(1):
            ready.set()
            go.wait()
            return torch.get_num_threads()

    with torch_threads(1):
        thread, found = _beside(other)
        ready.wait()
        assert torch.get_num_threads() == 1
    go.set()
    thread.join()
    with torch_threads(0):
        assert found == [1]
    torch.set_num_threads(before)
