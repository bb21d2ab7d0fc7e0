"""How many threads a piece of work gets."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Run a block with so many torch threads (0 leaves them as they are).

    Networks of the width that rankers and towers have are done with a step sooner than their threads have found
    each other, and threads that wait spin: on a busy machine a second thread makes them many times slower. With one
    thread the result is the same on every machine, too.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _libraries():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> contextlib.AbstractContextManager:
    """Run a block with one BLAS thread: the products of a request are too small to share, and its threads would
    wait for each other (on a busy machine a slate takes ten times as long)."""
    return _libraries().limit(limits=1, user_api="blas")
