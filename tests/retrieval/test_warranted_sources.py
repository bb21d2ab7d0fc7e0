"""Which of the sources of visits, repeats, baskets and segments some data is for."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log

from recsys_cli.data.windows.windows import Windows
from recsys_cli.pipeline.config import FilterConfig, PipelineConfig
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.training.warranted import settle_repeats, unwarranted

MINUTE = 60_000_000


class Said(Progress):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def job_of(rows, n_users, n_items, allows_seen=False, seen="auto", **more):
    """As much of a training as is looked at; the first half of the time is history, the last quarter validates."""
    log = make_log(rows)
    log = replace(log, **more)
    first, span = int(log.time[0]), int(log.time[-1] - log.time[0])
    windows = Windows(
        start=first, history_end=first + span // 2, validation_start=first + 3 * span // 4,
        test_start=int(log.time[-1]) + 1, end=int(log.time[-1]) + 2,
    )  # fmt: skip
    dataset = SimpleNamespace(
        log=log, catalogue=make_catalogue(n_users, [-1] * n_items), manifest=SimpleNamespace(has_time=True)
    )
    settings = SimpleNamespace(pipeline=PipelineConfig(filters=FilterConfig(seen=seen)))
    return SimpleNamespace(
        whole=dataset, dataset=dataset, windows=windows, split=SimpleNamespace(held_out=None), settings=settings,
        lesson=SimpleNamespace(dataset=dataset, windows=windows), allows_seen=allows_seen, metrics={}, progress=Said(),
    )  # fmt: skip


def why(job, kind):
    return unwarranted(job, SOURCES[kind].config_type())


def visitors():
    """400 anonymous people, a session of five items each."""
    rng = np.random.default_rng(0)
    rows = [(u, int(i), NOW - (400 - u) * 60 * MINUTE + at * MINUTE) for u in range(400)
            for at, i in enumerate(rng.choice(50, 5, replace=False))]
    return job_of(rows, 400, 50)


def households(**more):
    """60 people, a basket of four items a week for ten weeks."""
    rng = np.random.default_rng(0)
    rows = [(u, int(i), NOW - (70 - 7 * week) * DAY + u * MINUTE) for u in range(60) for week in range(10)
            for i in (*range(u, u + 3), rng.integers(100, 200))]
    return job_of(rows, 60, 200, **more)


def sittings():
    """100 people rate thirty films, three at a time, in one sitting."""
    rows = [(u, (u + i) % 300, NOW - (100 - u) * DAY + i // 3 * MINUTE) for u in range(100) for i in range(30)]
    return job_of(rows, 100, 300)


def test_neighbours_of_sessions_are_for_short_ones_of_people_who_are_not_known():
    assert why(visitors(), "session_neighbours") is None
    assert why(sittings(), "session_neighbours").startswith("its sessions have 30 interactions in the middle")
    assert why(households(), "session_neighbours") == "100% of the people are known, and 100% by more than one session"


def test_baskets_are_taken_together_and_come_again():
    assert why(households(), "next_basket") is None
    assert why(visitors(), "next_basket").startswith("0% of the interactions share a request or a moment")
    assert why(sittings(), "next_basket") == "what is taken at once is part of one visit, 1 minutes apart"
    once = job_of([(u, i, NOW - (50 - u) * DAY) for u in range(50) for i in range(u, u + 3)], 50, 60)
    assert why(once, "next_basket") == "0% of the people have more than one basket"


def test_repeats_are_settled_by_the_data_and_said_once():
    job = households()
    settle_repeats(job)
    assert job.repeats and job.metrics["repeats"]["share"] == pytest.approx(0.75, abs=0.05)
    assert len(job.progress.lines) == 1 and job.progress.lines[0].startswith("lists may hold seen items: 7")
    films = sittings()
    settle_repeats(films)
    assert not films.repeats and films.progress.lines == []


@pytest.mark.parametrize("seen", [True, False])
def test_what_is_set_is_not_spoken_of(seen):
    job = households(seen=seen, allows_seen=not seen)
    settle_repeats(job)
    assert job.progress.lines == [] and job.metrics["repeats"]["lists_may_hold_seen"] is not seen
    assert (why(job, "repeat_consumption") is None) is not seen


def test_segments_are_for_people_of_whom_nothing_else_is_known():
    assert why(visitors(), "segment_trending") is None
    assert why(households(), "segment_trending") == "100% of the people are known by more than their attributes"


def test_other_sources_are_not_judged_here():
    assert why(visitors(), "markov") is None
