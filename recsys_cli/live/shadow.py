"""The shadow: a new run answers copies of live requests beside the server, and is held against the one in use.

The copies are those of the latest answers in the log. Both runs answer them in the process of the retraining, so that
no request waits for it, and nothing of it is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import RecsysError
from recsys_cli.live.config import ShadowConfig
from recsys_cli.live.gates import Gate

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine

LOOKED_AT = 50
"""Events at the end of the log that are looked at for each copy."""
FEWEST = 30
"""Copies of which the likeness of lists says something."""
SLACK = 0.005
"""Seconds more that always pass."""


@dataclass(frozen=True)
class Request:
    """A request as the log tells of it."""

    user: str
    n: int
    context: dict[str, str]


@dataclass
class Copied:
    """The latest requests of a log, and what their people have done since."""

    requests: list[Request]
    seen: dict[str, dict[str, None]]
    """person → items that they saw or acted on, of what the copies were looked for in"""


@dataclass
class Answered:
    """What one run made of the copies."""

    lists: list[list[str]] = field(default_factory=list)
    """empty where it failed"""
    seconds: list[float] = field(default_factory=list)
    """of the processor"""
    failed: list[str | None] = field(default_factory=list)


def latest_requests(log: Path, most: int) -> Copied:
    """Requests of the latest answers in a log that held anything, oldest first."""
    from recsys_cli.serving.refresher import LogReader

    reader = LogReader(log)
    after, out, seen = max(0, reader.last_offset - LOOKED_AT * most), [], {}
    while entries := reader.read(after):
        after = entries[-1].offset
        for entry in entries:
            served = entry.event.served
            if entry.event.user_id is not None and entry.event.item_id is not None:
                seen.setdefault(str(entry.event.user_id), {})[str(entry.event.item_id)] = None
            if entry.event.type == "served" and served is not None and served.items:
                context = {n: v for n, v in (("surface", served.surface), ("device", served.device)) if v}
                out.append(Request(str(entry.event.user_id), len(served.items), context))
    return Copied(out[-most:], seen)


def remember(engine: RecommendationEngine, copied: Copied) -> None:
    """Have a run know what the people of the copies have seen, so that a newer one does not differ by that alone."""
    from recsys_cli.pipeline.since import Since

    for request in copied.requests:
        user = engine.bundle.user_ids.position(request.user)
        items = engine.bundle.item_ids.positions(list(copied.seen.get(request.user, ())))
        if user >= 0 and (items >= 0).any():
            engine.recorded[user] = Since(seen=tuple(items[items >= 0].tolist()))


def answer(engine: RecommendationEngine, requests: Sequence[Request]) -> Answered:
    """What a run answers to each; whatever goes wrong is kept, and the others go on."""
    out = Answered()
    for number, request in enumerate(requests):
        items, failed, start = [], None, time.process_time()
        try:
            slate = engine.recommend(request.user, request.n, request.context or None, request=number)
            items = [str(item.item_id) for item in slate.items]
        except Exception as error:
            told = error.message if isinstance(error, RecsysError) else f"{type(error).__name__}: {error}"
            failed = told.splitlines()[0]
        out.seconds.append(time.process_time() - start)
        out.lists.append(items)
        out.failed.append(failed)
    return out


def shadow_gates(used: Answered, new: Answered, config: ShadowConfig) -> list[Gate]:
    """Errors, empty answers, time and likeness of a new run, beside the one in use on the same copies."""
    n = len(new.lists)
    mine = [why for why, theirs in zip(new.failed, used.failed, strict=True) if why is not None and theirs is None]
    both = [at for at in range(n) if new.failed[at] is None and used.failed[at] is None]
    empty = [sum(not answered.lists[at] for at in both) / max(len(both), 1) for answered in (used, new)]
    # the first answer loads what is loaded on first use
    late = [float(np.quantile(a.seconds[1:] or a.seconds, 0.95)) for a in (used, new)]
    alike = [
        len({*used.lists[at]} & {*new.lists[at]}) / len(used.lists[at]) for at in both if used.lists[at]
    ]
    overlap = float(np.mean(alike)) if len(alike) >= FEWEST else None
    failed = f"{len(mine)} of {n} copies" + (f", first: {mine[0]}" if mine else "")
    return [
        Gate("shadow: errors", len(mine) <= config.errors * n, failed, f"at most {config.errors:.0%}",
             "see the first error"),
        Gate("shadow: empty", empty[1] <= empty[0] + config.empty, f"{empty[1]:.1%} against {empty[0]:.1%}",
             f"at most {config.empty:.0%} more", "see `recsys recommend --explain`: which stage takes the items"),
        Gate("shadow: latency", late[1] <= max(config.latency_factor * late[0], late[0] + SLACK),
             f"95th percentile {1e3 * late[1]:.1f} ms of processor against {1e3 * late[0]:.1f}",
             f"at most {config.latency_factor:g} times as long", "see `recsys recommend --explain`: which stage"),
        Gate("shadow: overlap", None if overlap is None else overlap >= config.overlap,
             f"{len(alike)} answers tell nothing" if overlap is None else f"{overlap:.1%} of an answer stands in both",
             f"at least {config.overlap:.0%}", "the lists are other ones altogether: see `recsys compare`"),
    ]


def shadow(
    used: RecommendationEngine, new: RecommendationEngine, log: Path, config: ShadowConfig
) -> list[Gate]:
    """The gates of the latest live requests; one that could not be judged where there are none."""
    copied = latest_requests(log, config.requests)
    if not copied.requests:
        return [Gate("shadow", None, "the log holds no answers", "live requests to copy")]
    for engine in (used, new):
        remember(engine, copied)
    return shadow_gates(answer(used, copied.requests), answer(new, copied.requests), config)
