"""People who use a server that follows experiments, as far as the log tells of it; for the canary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from recsys_cli.experiments.registry import ExperimentRegistry, variants_of
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, EventRules, Served, told_of

ITEMS = 10
RULES = EventRules(actions=("click", "hide"))


class Site:
    """Writes the log of a server whose people click with a chance of their own; `step` is a second of it."""

    def __init__(self, artifacts: Path, seed: int, worse: float = 0.0, *, people: int = 2_000, rate: int = 200):
        """worse: share by which the candidate's items are clicked less often. rate: answers a step."""
        self.registry = ExperimentRegistry(artifacts)
        self.log = EventLog.open(artifacts / "events", RULES)
        self.rng, self.worse, self.rate = np.random.default_rng(seed), worse, rate
        self.taste = self.rng.beta(2, 12, people)
        self.answers: dict[str, int] = {}
        self.exposed: set[str] = set()
        self.number = 0
        self.more: Callable[[str], list[Event]] = lambda arm: []

    def step(self, _seconds: float = 1.0) -> None:
        running = self.registry.running()
        users = self.rng.integers(0, len(self.taste), self.rate)
        names = [f"u{u}" for u in users]
        arms = variants_of(running, names)
        events: list[Event] = []
        for at, (user, name) in enumerate(zip(users, names, strict=True)):
            mine = {key: found[at] for key, found in arms.items() if found[at] is not None}
            for experiment in running:
                arm, config = mine.get(experiment.config.key), experiment.config
                if arm is None:
                    continue
                if self.answers.get(arm, 0) >= config.most_answers.get(arm, 10**9):
                    mine = {}
                    continue
                self.answers[arm] = self.answers.get(arm, 0) + 1
                if arm == "candidate":
                    self.exposed.add(name)
            events += self._answer(name, self.taste[user], mine)
        assert self.log.append(events).rejected == []

    def _answer(self, user: str, taste: float, arms: dict[str, str]) -> list[Event]:
        self.number += 1
        request, candidate = f"r{self.number}", "candidate" in arms.values()
        items = [f"i{i}" for i in range(ITEMS)]
        out = [Event("served", user, request_id=request, served=Served(items, arm=told_of(arms)))]
        chance = taste * (1 - self.worse * candidate)
        for item in np.flatnonzero(self.rng.random(ITEMS) < chance):
            out.append(Event("click", user, items[item], request_id=request))
        return out

    def close(self) -> None:
        self.log.close()
