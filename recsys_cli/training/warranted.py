"""What only some data is for: lists that hold what was seen, and sources of visits, repeats, baskets and segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.repeats import repeats_in
from recsys_cli.data.schema import HOUR
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.sequential.next_basket import baskets_of
from recsys_cli.retrieval.sequential.sessions import TOGETHER, visits_of

if TYPE_CHECKING:
    from recsys_cli.retrieval.config import RetrieverConfig
    from recsys_cli.training.job import TrainingJob

SHORT = 12
"""Interactions of a session, in the middle of all that are longer than one, up to which they are short: shops see 3 to
6, music 10; who rates films in one sitting has no session in this sense."""
STRANGERS = 0.5
"""Share of the people with one session, or of those of the ranker's window who are new by then, from which on visitors
are anonymous to what learns of people."""
FEW_STRANGERS = 0.2
"""Share of the people of the ranker's window who are new by then, below which what knows only their attributes has
nobody to serve."""
LOOKED_AT = 20_000
"""People by whose interactions it is told at most."""


def settle_repeats(job: TrainingJob) -> None:
    """Settle whether lists may hold what was seen; said where the data decides and anything is repeated at all."""
    w = job.lesson.windows
    found = repeats_in(job.lesson.dataset.log, w.validation_start, w.test_start)
    job.repeats = found.common
    job.metrics["repeats"] = found.to_json() | {"lists_may_hold_seen": job.allows_seen}
    if job.settings.pipeline.filters.seen == "auto" and round(found.share, 2) > 0:
        job.progress.message(found.line())


def unwarranted(job: TrainingJob, config: RetrieverConfig) -> str | None:
    """Why a source of visits, repeats, baskets or segments that is left to the data will not pay on it; None where it
    may, and for any other source."""
    why = {
        "session_neighbours": _no_visits, "repeat_consumption": _no_repeats, "next_basket": _no_baskets,
        "segment_trending": _no_strangers,
    }
    return why[config.kind](job, config) if config.kind in why else None


def _as_logged(job: TrainingJob) -> Window:
    """The log at its own moments, whatever order the windows put it in, of LOOKED_AT people, evenly taken."""
    log = job.whole.log
    people = np.unique(log.user[log.positive])
    some = people[:: max(-(-len(people) // LOOKED_AT), 1)]
    log = log if len(some) == len(people) else log.take(np.isin(log.user, some))
    return Window(job.whole, job.whole.catalogue, log, int(job.whole.log.time[-1]) + 1, None)


def _no_visits(job: TrainingJob, config: RetrieverConfig) -> str | None:
    window = _as_logged(job)
    if not len(window.interactions[0]):
        return None
    found, _ = visits_of(window, config.sessions, config.gap_minutes)
    lengths = found.items.lengths
    middle = float(np.median(lengths[lengths > 1])) if (lengths > 1).any() else 0.0
    if middle > SHORT:
        return f"its sessions have {middle:.0f} interactions in the middle, and it is for short ones"
    once = float((np.unique(found.user, return_counts=True)[1] == 1).mean())
    if once < STRANGERS and (strangers := strangers_among(job)) < STRANGERS:
        return f"{1 - strangers:.0%} of the people are known, and {1 - once:.0%} by more than one session"
    return None


def strangers_among(job: TrainingJob) -> float:
    """Share of the people of the ranker's window in time of whom nothing is known at its start; held-out people are
    new whatever the window."""
    if job.split.held_out is not None:
        return 1.0
    known = met_before(job)
    return float(1 - known.mean()) if len(known) else 0.0


def met_before(job: TrainingJob) -> np.ndarray:
    """bool[n]: of each of those who turned to something in the ranker's or the validation window in time, whether they
    had turned to something in the history."""
    log, w = job.dataset.log, job.windows
    before, after = log.window(end=w.history_end), log.window(w.history_end, w.test_start)
    return np.isin(np.unique(after.user[after.positive]), before.user[before.positive])


def _no_strangers(job: TrainingJob, config: RetrieverConfig) -> str | None:
    strangers = strangers_among(job)
    if strangers >= FEW_STRANGERS:
        return None
    return f"{1 - strangers:.0%} of the people are known by more than their attributes"


def _no_repeats(job: TrainingJob, config: RetrieverConfig) -> str | None:
    if job.allows_seen:
        return None
    decided = job.settings.pipeline.filters.seen == "auto"
    return "people seldom come back to what they had" if decided else "lists leave out what was seen"


def _no_baskets(job: TrainingJob, config: RetrieverConfig) -> str | None:
    window = _as_logged(job)
    if config.basket == "session" or not len(window.interactions[0]):
        return None
    # what is one visit is a basket only where somebody says so
    found = baskets_of(window, config.basket, sessions=False)
    baskets = np.unique(found.user, return_counts=True)[1]
    if found.together < TOGETHER:
        return f"{found.together:.0%} of the interactions share a request or a moment with another"
    if (baskets > 1).mean() < TOGETHER:
        return f"{(baskets > 1).mean():.0%} of the people have more than one basket"
    apart = np.diff(found.start)[found.user[1:] == found.user[:-1]]
    if job.whole.manifest.has_time and np.median(apart) < HOUR:
        return f"what is taken at once is part of one visit, {np.median(apart) / HOUR * 60:.0f} minutes apart"
    return None
