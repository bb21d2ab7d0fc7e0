"""How many threads a piece of work gets, what threads of a process share, and on which device networks are trained."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from recsys_cli.errors import ConfigError
from recsys_cli.progress import Progress, Step

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


_torch, _blas, _random, _on_gpu = _Shared(), _Shared(), threading.RLock(), threading.RLock()


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


def training_device(wanted: Device, progress: Progress | None = None) -> torch.device:
    """Where networks are trained: on a GPU where one is wanted or, with "auto", there.

    A GPU that torch finds and cannot use is said, and left. Raises ConfigError where one is wanted and torch has none
    that it can use.
    """
    import torch

    if wanted == "cpu":
        return torch.device("cpu")
    there, fault = _gpu()
    if there and fault is None:
        torch.set_float32_matmul_precision("high")  # products of single precision on the units for mixed precision
        return torch.device("cuda")
    if wanted == "cuda":
        why = "" if fault is None else f": {fault}"
        raise ConfigError(
            f"device is cuda and torch finds no GPU that it can use here{why}", "set device to auto or cpu"
        )
    if fault is not None and progress is not None:
        progress.message(f"torch cannot use the GPU, networks are trained on the CPU: {fault}")
    return torch.device("cpu")


def _gpu() -> tuple[bool, str | None]:
    """Whether torch finds a GPU, and the first line of why it cannot use one: a driver that is too old for it, or a
    card that it was not built for."""
    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    fault = str(told[0].message).partition("\n")[0] if told else None
    if there:
        try:
            torch.ones(2, device="cuda").add_(1).cpu()
        except (RuntimeError, AssertionError) as error:
            return True, str(error).partition("\n")[0]
        return True, None
    return False, fault


def train_on(
    wanted: Device, what: str, progress: Progress, train: Callable[[torch.device, int], Made]
) -> Made:
    """What train(device, parts) makes on the device wanted, with batches of 1 / parts of their size.

    Where the memory of a GPU does not suffice, batches of half the size are tried once, then the CPU takes over; both
    are said. what: is trained, in words. One network at a time is on the GPU: two at once could fill it, and what one
    becomes must not depend on the other.
    """
    import torch

    device = training_device(wanted, progress)
    for parts in (1, 2) if device.type == "cuda" else ():
        with _on_gpu:
            with contextlib.suppress(torch.OutOfMemoryError):
                return train(device, parts)
            torch.cuda.empty_cache()  # after the error, which holds what filled it
        then = "batches of half the size" if parts == 1 else "the CPU"
        progress.message(f"{what}: the GPU's memory does not suffice, going on with {then}")
    return train(torch.device("cpu"), 1)


class Work:
    """Something that is done on another thread, or where its result is asked for."""

    def __init__(self, function: Callable[[], Made]):
        self._function: Callable[[], Made] | None = function
        self._lock, self._done, self._error = threading.Lock(), None, None

    def run(self) -> None:
        with self._lock:
            if self._function is not None:
                try:
                    self._done = self._function()
                except BaseException as error:  # told where the result is asked for
                    self._error = error
                self._function = None

    def result(self) -> Made:
        """What the function gives; waits for it, or calls it where nobody has begun. Raises what it raised."""
        self.run()
        if self._error is not None:
            raise self._error
        return self._done


class Stopped(Exception):
    """Work that nobody wants any more ends."""


class _Stoppable(Progress):
    """Progress of work that ends at its next step forward once it is not wanted any more."""

    def __init__(self, shown: Progress, unwanted: threading.Event):
        self._shown, self._unwanted = shown, unwanted

    @contextlib.contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        unwanted = self._unwanted
        with self._shown.step(name, total) as bar:

            class _Bar(Step):
                def advance(self, amount: float = 1) -> None:
                    if unwanted.is_set():
                        raise Stopped
                    bar.advance(amount)

                def describe(self, text: str) -> None:
                    bar.describe(text)

            yield _Bar()

    def message(self, text: str) -> None:
        self._shown.message(text)


class SideBySide:
    """Threads that take up work in the order in which it is handed to them; with none, work is done where its result
    is asked for. A block that is left by an error stops them at their next step forward."""

    def __init__(self, threads: int, progress: Progress):
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._take, daemon=True) for _ in range(threads)]
        self._unwanted = threading.Event()
        self.progress = _Stoppable(progress, self._unwanted)
        """to be told of by the work"""

    def __enter__(self) -> SideBySide:
        for thread in self._threads:
            thread.start()
        return self

    def _take(self) -> None:
        while (work := self._work.get()) is not None:
            work.run()

    def begin(self, function: Callable[..., Made], *arguments: object) -> Work:
        """Hand work over."""
        return self.take(Work(functools.partial(function, *arguments)))

    def take(self, work: Work) -> Work:
        """Hand over work that there is already."""
        self._work.put(work)
        return work

    def __exit__(self, *error: object) -> None:
        self._unwanted.set()
        with contextlib.suppress(queue.Empty):
            while True:  # what nobody has begun nobody wants any more
                self._work.get_nowait()
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()


@functools.lru_cache(maxsize=1)
def _libraries(modules: int):
    """The libraries that are loaded. modules: how many there are; another one may have brought a library of its own."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run a block with one BLAS thread: the products of a request are too small to share, and its threads would
    wait for each other (on a busy machine a slate takes ten times as long); and how many share a larger one decides
    how it is rounded."""
    if _alone():
        yield
        return
    with _blas.held(lambda: _libraries(len(sys.modules)).limit(limits=1, user_api="blas").restore_original_limits):
        yield


def _alone() -> bool:
    """Whether BLAS has one thread from the start, as the command line sees to: to ask the libraries for it takes
    longer than a slate."""
    return os.environ.get("OPENBLAS_NUM_THREADS") == "1" and not {"torch", "mkl"} & sys.modules.keys()


def stand_back(steps: int) -> None:
    """Have this process give way to others: so many steps of niceness lower and, where the system has it, as a batch
    that interrupts nobody when it wakes up."""
    os.nice(steps)
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # forbidden in some containers; the niceness stays
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
