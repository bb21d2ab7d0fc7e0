"""Waiting for parts of a millisecond on an event loop, whose own timers are a millisecond coarse.

To wait in turns of the loop takes a whole core, which the server that is measured beside then lacks. Linux has timers
that are files (timerfd), and a loop waits for files at no price.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os

_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Span(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Span), ("value", _Span))


class Timer:
    """Waits in turns of the event loop; for one task at a time."""

    @classmethod
    def here(cls) -> Timer:
        """The best that this machine has, for the loop that runs."""
        with contextlib.suppress(OSError, AttributeError):
            return FileTimer()
        return cls()

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or a little less."""
        await asyncio.sleep(seconds - 0.001 if seconds > 0.002 else 0)

    def close(self) -> None:
        """Let go of what it holds."""


class FileTimer(Timer):
    """A timerfd; raises OSError or AttributeError where there are none."""

    def __init__(self) -> None:
        self._system = ctypes.CDLL(None, use_errno=True)
        self._file = self._system.timerfd_create(_MONOTONIC, _FLAGS)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop, self._waiter = asyncio.get_running_loop(), None
        self._setting = _Setting()
        self._loop.add_reader(self._file, self._due)

    def _due(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._file, 8)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def sleep(self, seconds: float) -> None:
        nanoseconds = max(int(seconds * 1e9), 1)
        value = self._setting.value
        value.seconds, value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._waiter = self._loop.create_future()
        self._system.timerfd_settime(self._file, 0, ctypes.byref(self._setting), None)
        await self._waiter

    def close(self) -> None:
        self._loop.remove_reader(self._file)
        os.close(self._file)
