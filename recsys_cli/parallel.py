"""How many threads a piece of work gets, and on which device networks are trained."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, TypeVar

from recsys_cli.errors import ConfigError
from recsys_cli.progress import Progress

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Made = TypeVar("Made")


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


def training_device(wanted: Device) -> torch.device:
    """Where networks are trained: on a GPU where one is wanted or, with "auto", there.

    Raises ConfigError where one is wanted and torch has none that it can use.
    """
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigError("device is cuda and torch finds no GPU that it can use here", "set device to auto or cpu")
    if wanted == "cpu" or not there:
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")  # products of single precision on the units for mixed precision
    return torch.device("cuda")


def train_on(
    wanted: Device, what: str, progress: Progress, train: Callable[[torch.device, int], Made]
) -> Made:
    """What train(device, parts) makes on the device wanted, with batches of 1 / parts of their size.

    Where the memory of a GPU does not suffice, batches of half the size are tried once, then the CPU takes over; both
    are said. what: is trained, in words.
    """
    import torch

    device = training_device(wanted)
    for parts in (1, 2) if device.type == "cuda" else ():
        try:
            return train(device, parts)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            then = "batches of half the size" if parts == 1 else "the CPU"
            progress.message(f"{what}: the GPU's memory does not suffice, going on with {then}")
    return train(torch.device("cpu"), 1)


@functools.cache
def _libraries():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> contextlib.AbstractContextManager:
    """Run a block with one BLAS thread: the products of a request are too small to share, and its threads would
    wait for each other (on a busy machine a slate takes ten times as long)."""
    return _libraries().limit(limits=1, user_api="blas")


def stand_back(steps: int) -> None:
    """Have this process give way to others: so many steps of niceness lower and, where the system has it, as a batch
    that interrupts nobody when it wakes up."""
    os.nice(steps)
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # forbidden in some containers; the niceness stays
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
