"""How many threads a piece of work gets, what threads of a process share, and on which device networks are trained."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from recsys_cli.errors import ConfigError
from recsys_cli.progress import Progress

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Made = TypeVar("Made")


class _Shared:
    """A setting of the whole process that blocks of several threads want at once: the first block makes it, the last
    takes it back, so that none of them loses it in between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._undo: Callable[[], object] = lambda: None

    @contextlib.contextmanager
    def held(self, make: Callable[[], Callable[[], object]]) -> Iterator[None]:
        """make: makes the setting, and gives what takes it back."""
        with self._lock:
            if not self._blocks:
                self._undo = make()
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._undo()


_torch, _blas, _random = _Shared(), _Shared(), threading.RLock()


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Run a block with so many torch threads (0 leaves them as they are).

    Networks of the width that rankers and towers have are done with a step sooner than their threads have found
    each other, and threads that wait spin: on a busy machine a second thread makes them many times slower. With one
    thread the result is the same on every machine, too.
    """
    import torch

    def make() -> Callable[[], object]:
        before = torch.get_num_threads()
        return lambda: torch.set_num_threads(before)

    if not number:
        yield
        return
    with _torch.held(make):
        torch.set_num_threads(number)  # a thread has a number of its own beside that of the process
        yield


@contextlib.contextmanager
def torch_seed(seed: int, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Run a block in which torch's own stream of random numbers begins with the seed, and put it back afterwards.

    The stream belongs to the process: blocks of other threads wait, so that what each draws is what it would draw
    alone. devices: GPUs whose streams are put back too.
    """
    import torch

    with _random, torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


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


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run a block with one BLAS thread: the products of a request are too small to share, and its threads would
    wait for each other (on a busy machine a slate takes ten times as long); and how many share a larger one decides
    how it is rounded."""
    with _blas.held(lambda: _libraries().limit(limits=1, user_api="blas").restore_original_limits):
        yield
