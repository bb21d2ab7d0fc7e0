"""The canary: a new run serves a share of the people as an ordinary experiment, is watched answer by answer, and is
rolled back as soon as it is surely worse.

Three guardrails are followed, with people as the units: items engaged with for each answer, items turned down for each
answer, and answers that were empty. Looks come with every further part of the answers that the new run may give; each
may spend its part of alpha (Lan and DeMets, Biometrika 1983, Pocock's shape), so that one may look all the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import RecsysError
from recsys_cli.experiments.config import ExperimentConfig, VariantConfig
from recsys_cli.experiments.registry import ExperimentRegistry
from recsys_cli.experiments.statistics.boundaries import boundaries
from recsys_cli.files import held_by
from recsys_cli.live.config import CanaryConfig
from recsys_cli.live.gates import Gate
from recsys_cli.serving.event_log import LOCK
from recsys_cli.serving.events import Entry, arms_of
from recsys_cli.serving.refresher import LogReader

if TYPE_CHECKING:
    from recsys_cli.experiments.registry import Started

NAME = "canary"
USED, NEW = "used", "candidate"
CONTROLS = 4.0
"""Share of the people whom the new run is compared with, in shares of those whom it serves."""
LOOKS = 20
"""Looks at most, evenly over the answers of the new run."""
FEWEST = 30
"""People that each side must have before anything is decided."""
LOOK_SECONDS = 1.0
GUARDRAILS = ("engaged", "turned down", "empty")
"""What is followed of each answer; the first one is harmed by a fall, the others by a rise."""


class Watched:
    """What people did with the answers of both runs, by person."""

    def __init__(self, key: str, positive: Iterable[str], negative: Iterable[str]):
        """key: of the experiment. positive, negative: types of events."""
        self._key, self._kinds = key, dict.fromkeys(positive, 1) | dict.fromkeys((*negative, "see_less"), 2)
        self._arms: dict[tuple[str, str], str] = {}
        self._done: set[tuple[str, str, str, int]] = set()
        self._people: dict[str, dict[str, np.ndarray]] = {USED: {}, NEW: {}}
        self.offset = 0

    def take(self, entries: Iterable[Entry]) -> None:
        """Count events of the log, in its order. What names no answer of either run counts nowhere, and an item of an
        answer counts once."""
        for entry in entries:
            self.offset, event = entry.offset, entry.event
            if event.request_id is None or event.user_id is None:
                continue
            request = event.request_id, str(event.user_id)
            if event.type == "served" and event.served is not None:
                arm = arms_of(event.served.arm).get(self._key)
                if arm in self._people and request not in self._arms:
                    self._arms[request] = arm
                    self._of(arm, request[1])[[0, 3]] += 1, not event.served.items
            elif (kind := self._kinds.get(event.type)) is not None and request in self._arms:
                done = (*request, str(event.item_id), kind)
                if done not in self._done:
                    self._done.add(done)
                    self._of(self._arms[request], request[1])[kind] += 1

    def _of(self, arm: str, user: str) -> np.ndarray:
        return self._people[arm].setdefault(user, np.zeros(4))

    def columns(self, arm: str) -> np.ndarray:
        """float64[U, 4] of the people of a run: answers, and what GUARDRAILS count."""
        people = self._people[arm]
        return np.stack(list(people.values())) if people else np.zeros((0, 4))

    def answers(self, arm: str) -> int:
        return int(self.columns(arm)[:, 0].sum())

    def people(self, arm: str) -> int:
        return len(self._people[arm])


@dataclass(frozen=True)
class Compared:
    """One guardrail of both runs."""

    guardrail: str
    used: float
    new: float
    """for each answer"""
    z: float
    """standard errors by which the new run is worse"""


def compare(watched: Watched) -> list[Compared]:
    """Each guardrail of both runs: ratios of sums over people, with the errors of the delta method."""
    sides = [watched.columns(USED), watched.columns(NEW)]
    out = []
    for at, name in enumerate(GUARDRAILS, 1):
        rates, variances = zip(*(_rate(side[:, 0], side[:, at]) for side in sides), strict=True)
        gap = rates[1] - rates[0]
        error = float(np.sqrt(sum(variances)))
        worse = -gap if at == 1 else gap
        out.append(Compared(name, rates[0], rates[1], worse / error if error > 0 else 0.0))
    return out


def _rate(answers: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """(counts for each answer, variance of it)."""
    n, total = len(answers), answers.sum()
    if n < 2 or not total:
        return 0.0, 0.0
    rate = counts.sum() / total
    return float(rate), float(n / (n - 1) * ((counts - rate * answers) ** 2).sum() / total**2)


class Sequential:
    """The looks at a canary, and whether it is surely worse by them."""

    def __init__(self, most: int, alpha: float):
        """most: answers of the new run at the last look."""
        self._most, self._alpha = most, alpha
        self._looks: list[float] = []

    def look(self, watched: Watched) -> Compared | None:
        """The guardrail by which the new run is surely worse; None where it is not, or it is not yet time to look."""
        information = min(watched.answers(NEW) / self._most, 1.0)
        last = self._looks[-1] if self._looks else 0.0
        if information < last + 1 / LOOKS and not (information == 1.0 > last):
            return None
        if min(watched.people(USED), watched.people(NEW)) < FEWEST:
            return None
        self._looks.append(information)
        # one side alone is looked at, so that twice the part of each guardrail may be spent on two
        bound = boundaries(self._looks, 2 * self._alpha / len(GUARDRAILS), "pocock")[-1]
        found = max(compare(watched), key=lambda c: c.z)
        return found if found.z >= bound else None


def is_served(artifacts: Path) -> bool:
    """Whether a server writes the log of an artifacts folder."""
    return held_by(artifacts / "events" / LOCK) is not None


def experiment_of(run: str, config: CanaryConfig, version: int) -> ExperimentConfig:
    """The canary of a run as an experiment."""
    traffic = min(config.share * (1 + CONTROLS), 1.0)
    part = config.share / traffic
    return ExperimentConfig(
        name=NAME, version=version, description=f"run {run} beside the one in use", traffic=traffic, days=366,
        variants={USED: VariantConfig(share=1 - part), NEW: VariantConfig(run=run, share=part)},
        most_answers={NEW: config.most_requests}, metrics=("ctr", "negative_rate"),
    )


def end_stale(artifacts: Path) -> bool:
    """End a canary whose retraining died; whether there was one."""
    registry = ExperimentRegistry(artifacts)
    if NAME in registry.names() and registry.open(NAME).state == "running":
        registry.stop(NAME, "its retraining ended without a word")
        return True
    return False


def canary(
    artifacts: Path, run: str, config: CanaryConfig, positive: Iterable[str], negative: Iterable[str], *,
    wanted: Callable[[], bool] = lambda: True, told: Callable[[int], None] = lambda answers: None,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> Gate:
    """Have a server give a run to a share of the people until it is surely worse, or has given its answers.

    positive, negative: types of events. wanted: whether to go on; the canary is given up where not. told: is told how
    many answers there are. Whatever happens, the experiment is ended when this returns.
    """
    if not is_served(artifacts):
        return Gate("canary", None, "no server answers from these artifacts", "a server with people")
    registry = ExperimentRegistry(artifacts)
    end_stale(artifacts)
    version = registry.open(NAME).config.version + 1 if NAME in registry.names() else 1
    log = LogReader(artifacts / "events")
    offset = log.last_offset
    started = registry.start(experiment_of(run, config, version))
    reason = "interrupted"
    try:
        watched = Watched(started.config.key, positive, negative)
        watched.offset = offset
        harm = _watch(watched, log, config, wanted, told, clock, sleep)
        gate = _judged(watched, harm, config)
        reason = gate.measured
        return gate
    finally:
        _end(registry, started, reason)


def _end(registry: ExperimentRegistry, started: Started, reason: str) -> None:
    try:
        registry.stop(started.config.name, reason)
    except RecsysError:
        return  # somebody ended it by hand


def _watch(
    watched: Watched, log: LogReader, config: CanaryConfig, wanted: Callable[[], bool], told: Callable[[int], None],
    clock: Callable[[], float], sleep: Callable[[float], None],
) -> Compared | None:
    sequential, end = Sequential(config.most_requests, config.alpha), clock() + 60 * config.minutes
    while True:
        while entries := log.read(watched.offset):
            watched.take(entries)
        found, answers = sequential.look(watched), watched.answers(NEW)
        told(answers)
        if found is not None or answers >= config.most_requests or clock() >= end or not wanted():
            return found
        sleep(LOOK_SECONDS)


def _judged(watched: Watched, harm: Compared | None, config: CanaryConfig) -> Gate:
    answers, people = watched.answers(NEW), watched.people(NEW)
    seen = f"{answers:,} answers to {people:,} people"
    aim = f"not surely worse, and at the end at most {config.loss:.0%} lower"
    mend = "see `recsys ab-test list` and the trace log; the run stays among the others"
    if harm is not None:
        told = f"{harm.guardrail} {harm.new:.3f} an answer against {harm.used:.3f}, z {harm.z:.1f}, after {seen}"
        return Gate("canary", False, told, aim, mend)
    if min(people, watched.people(USED)) < FEWEST:
        wanted = f"{FEWEST} people on either side within {config.minutes:g} minutes"
        return Gate("canary", False, f"only {seen}", wanted,
                    "raise live.canary.share or live.canary.minutes")
    engaged = compare(watched)[0]
    change = engaged.new / engaged.used - 1 if engaged.used else 0.0
    told = f"engaged {engaged.new:.3f} an answer against {engaged.used:.3f} ({change:+.1%}), {seen}"
    return Gate("canary", change >= -config.loss, told, aim, mend)
