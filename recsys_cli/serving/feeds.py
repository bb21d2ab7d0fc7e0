"""What sources of events have in common: messages as JSON into the log, with how far they were read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import msgspec

from recsys_cli.errors import RecsysError
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import INTERNAL, Event, Receipt

_decode = msgspec.json.Decoder(Event).decode


class Fed(msgspec.Struct):
    """What became of some messages."""

    messages: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    """those that are no events among them"""


def feed(log: EventLog, messages: Sequence[tuple[str, bytes]], positions: dict[str, str]) -> Fed:
    """Write messages (id, JSON of one event) and how far their source was read, in one transaction.

    An event without an `event_id` gets the message's. What is no event is kept among the refused ones.
    """
    events, unreadable = [], []
    for name, body in messages:
        try:
            event = _decode(body)
        except msgspec.MsgspecError as error:
            unreadable.append((f"no event: {error}", bytes(body)))
            continue
        if event.type in INTERNAL:
            unreadable.append((f"{event.type} is written by the server alone", bytes(body)))
            continue
        if event.event_id is None:
            event.event_id = name
        events.append(event)
    if not messages:
        return Fed()
    receipt: Receipt = log.append(events, positions=positions, unreadable=unreadable)
    return Fed(len(messages), receipt.accepted, receipt.duplicates, len(receipt.rejected) + len(unreadable))


def require(module: str, extra: str) -> None:
    """Raises RecsysError saying how to install what is not there."""
    if find_spec(module) is None:
        raise RecsysError(f"{extra} needs a package that is not installed", f"pip install 'recsys-cli[{extra}]'")
