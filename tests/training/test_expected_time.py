"""How long a training will take yet."""

import pytest

from recsys_cli.progress import Step
from recsys_cli.training import expected as module
from recsys_cli.training.expected import TYPICAL, Expected


class Bar(Step):
    def __init__(self):
        self.said, self.moved = [], 0.0

    def describe(self, text):
        self.said.append(text)

    def advance(self, amount=1):
        self.moved += amount


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_time_left_by_an_earlier_run_at_the_pace_of_this_one(clock):
    bar = Bar()
    told = Expected({"requests": 10.0, "heavy ranker": 30.0, "order": 20.0, "fit als (served)": 5.0}, bar)
    with told.step("requests"):
        assert bar.said[-1] == "requests, about 1:00 to go"
        clock[0] += 20  # twice as long as before
    assert told.left == 100
    with told.step("heavy ranker"), told.step("order"):
        assert bar.said[-1] == "heavy ranker and order, about 1:40 to go"
        clock[0] += 50
    assert told.left == 0 and bar.moved == pytest.approx(1)


def test_without_an_earlier_run_nothing_is_said_until_a_step_has_told_the_pace(clock):
    bar = Bar()
    told = Expected({}, bar)
    with told.step("read data"):
        assert bar.said == ["read data"]
        clock[0] += 2
    assert told.left == 2 * (sum(TYPICAL.values()) - TYPICAL["read data"])
