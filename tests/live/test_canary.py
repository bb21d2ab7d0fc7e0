"""The canary: what is counted, when it is surely worse, and a regression that only people show."""

from __future__ import annotations

import numpy as np
import pytest
from live_people import Site

from recsys_cli.config import validate
from recsys_cli.experiments.registry import ExperimentRegistry
from recsys_cli.live.canary import NEW, USED, Sequential, Watched, canary, compare, end_stale, is_served
from recsys_cli.live.config import CanaryConfig
from recsys_cli.serving.events import Entry, Event, Served

CONFIG = CanaryConfig(share=0.1, most_requests=1_000)


def entries(*events: Event) -> list[Entry]:
    return [Entry(n, event) for n, event in enumerate(events, 1)]


def served(request: str, user: str, arm: str, items=("a", "b"), key: str = "canary") -> Event:
    return Event("served", user, request_id=request, served=Served(list(items), arm=f"{key}={arm}"))


def test_actions_count_once_for_the_answer_that_they_name_and_for_no_other():
    watched = Watched("canary", ["click", "like"], ["hide"])
    watched.take(entries(
        served("r1", "1", NEW), served("r2", "1", USED), served("r3", "2", NEW, ()), served("r4", "3", "x"),
        served("r5", "4", NEW, key="other"),
        Event("click", 1, "a", request_id="r1"), Event("like", "1", "a", request_id="r1"),
        Event("click", "1", "b", request_id="r1"), Event("see_less", "1", "a", request_id="r2"),
        Event("click", "2", "a", request_id="r1"),  # somebody else's answer
        Event("click", "1", "a"), Event("click", "1", "a", request_id="r9"),
        Event("impression", "1", "a", request_id="r1"),
    ))
    assert watched.columns(NEW).tolist() == [[1, 2, 0, 0], [1, 0, 0, 1]]
    assert watched.columns(USED).tolist() == [[1, 0, 1, 0]] and watched.offset == 13


def test_guardrails_are_ratios_with_people_as_units():
    """Against statsmodels' least squares through the origin of clustered rows, whose sandwich is the delta method."""
    rng = np.random.default_rng(0)
    watched, n = Watched("canary", ["click"], ["hide"]), 0
    told = []
    for user in range(400):
        arm, taste = (NEW, USED)[user % 2], rng.beta(2, 5)
        for _ in range(rng.integers(1, 6)):
            n += 1
            told.append(served(f"r{n}", str(user), arm))
            told += [Event("click", str(user), i, request_id=f"r{n}") for i in "ab" if rng.random() < taste]
    watched.take(entries(*told))
    engaged = compare(watched)[0]
    for arm, rate in ((USED, engaged.used), (NEW, engaged.new)):
        columns = watched.columns(arm)
        assert rate == pytest.approx(columns[:, 1].sum() / columns[:, 0].sum())
    errors = []
    for arm in (USED, NEW):
        answers, clicks = watched.columns(arm)[:, :2].T
        picks = rng.integers(0, len(answers), (4000, len(answers)))
        errors.append((clicks[picks].sum(axis=1) / answers[picks].sum(axis=1)).std())
    assert engaged.z == pytest.approx((engaged.used - engaged.new) / np.hypot(*errors), rel=0.1)


def test_nothing_is_decided_of_few_people_or_between_looks():
    watched = Watched("canary", ["click"], ["hide"])
    told = []
    for n in range(58):
        arm = (USED, NEW)[n % 2]
        told.append(served(f"r{n}", str(n), arm))
        if arm == USED or n % 3 == 0:
            told.append(Event("click", str(n), "a", request_id=f"r{n}"))
    watched.take(entries(*told))
    sequential = Sequential(100, 0.05)
    assert sequential.look(watched) is None  # 29 people on either side
    watched.take([Entry(10**6 + n, e) for n, e in enumerate((served("x", "x", USED), served("y", "y", NEW)))])
    found = sequential.look(watched)
    assert found.guardrail == "engaged" and found.z > 2.5
    assert sequential.look(watched) is None  # no answer since


def through(tmp_path, seed: int, worse: float, config: CanaryConfig = CONFIG):
    site, steps = Site(tmp_path, seed, worse), []

    def sleep(seconds: float) -> None:
        steps.append(seconds)
        site.step()

    try:
        gate = canary(tmp_path, "20260101-000000", config, ["click"], ["hide"], sleep=sleep,
                      clock=lambda: float(len(steps)))
    finally:
        site.close()
    return site, gate


def test_a_regression_that_people_show_is_ended_within_its_answers_and_its_share_of_people(tmp_path):
    site, gate = through(tmp_path, 1, 0.4)
    assert gate.passed is False and gate.measured.startswith("engaged 0.")
    assert site.answers[NEW] < CONFIG.most_requests
    assert len(site.exposed) <= 0.13 * len(site.taste)
    registry = ExperimentRegistry(tmp_path)
    assert registry.running() == [] and "z" in registry.decisions(registry.open("canary"))[-1]["because"]


def test_a_run_that_is_as_good_passes_after_its_answers_and_the_next_canary_is_another_experiment(tmp_path):
    site, gate = through(tmp_path, 2, 0.0)
    assert gate.passed and site.answers[NEW] == CONFIG.most_requests
    before = site.exposed
    site, gate = through(tmp_path, 3, 0.0)
    assert gate.passed and ExperimentRegistry(tmp_path).open("canary").config.version == 2
    assert len(before & site.exposed) < 0.5 * len(before)  # it falls on other people


def test_a_canary_without_people_passes_nobody(tmp_path):
    site = Site(tmp_path, 0, rate=1)
    steps = iter(range(10**6))
    config = CONFIG.model_copy(update={"minutes": 0.1})
    gate = canary(tmp_path, "r", config, ["click"], ["hide"], sleep=site.step, clock=lambda: float(next(steps)))
    site.close()
    assert gate.passed is False and gate.measured.startswith("only 0 answers")


def test_without_a_server_it_cannot_be_judged_and_what_a_dead_one_left_is_ended(tmp_path):
    assert not is_served(tmp_path)
    assert canary(tmp_path, "r", CONFIG, [], []).passed is None
    site = Site(tmp_path, 0)
    assert is_served(tmp_path)

    def dies(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        canary(tmp_path, "r", CONFIG, [], [], sleep=dies)
    registry = ExperimentRegistry(tmp_path)
    assert registry.running() == []
    from recsys_cli.live.canary import experiment_of

    registry.start(experiment_of("r", CONFIG, 2))
    assert end_stale(tmp_path) and not end_stale(tmp_path) and registry.running() == []
    site.close()
    assert not is_served(tmp_path)


def test_the_share_of_people_is_the_one_that_was_said():
    from recsys_cli.experiments.assignment import assign_units
    from recsys_cli.live.canary import experiment_of

    for share in (0.01, 0.05, 0.5):
        config = experiment_of("r", validate(CanaryConfig, {"share": share}), 1)
        arms = assign_units(config, [f"u{n}" for n in range(20_000)])
        assert np.mean(arms == 1) == pytest.approx(share, abs=0.01)
