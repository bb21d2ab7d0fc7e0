"""A piece of work in a second process, so that the two arms of an experiment take both processors."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from recsys_cli.errors import RecsysError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


@contextlib.contextmanager
def with_one_thread() -> Iterator[None]:
    """Processes that are started meanwhile compute with one thread: libraries read these once, when they are loaded."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name in THREADS:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in THREADS if name in before})


class SecondProcess:
    """Runs `work()` in a fresh process from entering to leaving the context; leaving early ends it.

    work: a picklable callable; what it returns or raises comes back through `result`. The process computes with
    one thread: libraries whose threads wait for one another would slow both processes down.
    """

    def __init__(self, work: Callable[[], Any]):
        # forking would copy the locks of libraries that run threads
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(sender, work), daemon=True)
        self._sender = sender

    def __enter__(self) -> SecondProcess:
        with with_one_thread():
            self._process.start()
        self._sender.close()
        return self

    def result(self) -> Any:
        """Wait for the work; raises what it raised, and RecsysError where the process died."""
        try:
            done, value = self._receiver.recv()
        except EOFError:
            self._process.join()
            raise RecsysError(
                f"the process of one arm ended with code {self._process.exitcode}",
                "it may have run out of memory; --threads 1 runs the arms one after the other",
            ) from None
        if not done:
            raise value
        return value

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.join()
        self._receiver.close()


def _work(sender, work: Callable[[], Any]) -> None:
    # Ctrl-C reaches the whole group; the parent ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = (True, work())
    except Exception as error:
        answer = (False, error)
    with contextlib.suppress(BrokenPipeError):  # the parent has ended: nobody is there to be told
        sender.send(answer)
