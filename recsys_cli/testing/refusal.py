"""What the contracts share: that something bad is refused with the right error."""

from __future__ import annotations

from collections.abc import Callable

from recsys_cli.errors import RecsysError


def must_refuse(error: type[RecsysError], call: Callable, *given, what: str, **named) -> None:
    """Call something with bad input; AssertionError unless it raises the error, with a message of one line."""
    try:
        call(*given, **named)
    except error as raised:
        assert raised.message and "\n" not in raised.message, f"{what}: the message is one line"
        return
    except Exception as raised:
        told = f"{type(raised).__name__}: {raised}"
        raise AssertionError(f"{what} is refused with {error.__name__}, not {told}") from raised
    raise AssertionError(f"{what} is refused with {error.__name__}")
