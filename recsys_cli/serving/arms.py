"""Experiments as the server applies them: which variants somebody is in, and what differs there from the pipeline.

Experiments are those of `ExperimentRegistry`, wherever they were started; assignment is its stable hash. Settings of
variants that meet in one person, of experiments in different layers, are laid over each other in the order of the
experiments' names, and the last of them that names a run is answered from that run. What somebody was in is logged with
every answer, as "experiment=variant", several joined by "&".
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_cli.errors import ConfigError, RecsysError, UsageError, did_you_mean
from recsys_cli.experiments.registry import ExperimentRegistry, Started, variants_of
from recsys_cli.serving.events import INTERLEAVED, told_of
from recsys_cli.serving.overrides import written
from recsys_cli.serving.variant_runs import VariantRuns

if TYPE_CHECKING:
    from recsys_cli.experiments.config import Arm
    from recsys_cli.serving.live import Live

KEPT = 200_000
"""People whose variants are kept; those who asked longest ago go first."""


@dataclass(frozen=True)
class Arms:
    """The variants of one person."""

    names: dict[str, str]
    """experiment → variant"""
    overrides: str = ""
    """the way that answers (`overrides.written`)"""
    run: str | None = None
    """the run that answers; None for the one that is served"""
    told: str = ""
    """for the log; empty where nobody was exposed, as by a request that named its variants"""
    mixed: tuple[str, ...] = ()
    """the ways of the variants of an interleaved experiment, whose lists are mixed; empty where there is none"""
    method: str = ""
    """how they are mixed"""


NONE = Arms({})


class Experiments:
    """The experiments under way."""

    def __init__(self, artifacts: str | Path):
        self.registry = ExperimentRegistry(artifacts)
        self.running: list[Started] = []
        self.troubles: list[str] = []
        """why experiments that run are not served"""
        self.runs = VariantRuns()
        self._answers: dict[tuple[str, str], int] = {}
        self._seen: object = None
        self._held: OrderedDict[str, Arms] = OrderedDict()

    def look(self, live: Live) -> bool:
        """Take up what was started and stopped since; whether anything was. The ways of all variants are made ready."""
        seen = (live.run, self.runs.version, *self._signature())
        if seen == self._seen:
            return False
        running, troubles = [], []
        try:
            found = self.registry.running()
        except RecsysError as error:
            found, troubles = self.running, [f"experiments cannot be read: {error.message}"]
        self.runs.want({arm.run for e in found for arm in e.config.arms if arm.run not in (None, live.run)})
        for started in sorted(found, key=lambda e: e.started_at):
            reason = self._refused(started, live) or _met(started, running)
            if reason is None:
                running.append(started)
            else:
                troubles.append(f"experiment {started.config.key} is not served: {reason}")
        self.running, self.troubles, self._seen = running, troubles, seen
        self.forget()
        return True

    def _signature(self) -> list[tuple[str, int]]:
        """What changes with every start and stop, and on every day of a ramp."""
        states = sorted(self.registry.folder.glob("*/*/state.json"))
        return [(str(p), p.stat().st_mtime_ns) for p in states] + [(e.config.key, e.day) for e in self.running]

    def _refused(self, started: Started, live: Live) -> str | None:
        config = started.config
        for name, most in config.most_answers.items():
            if self._answers.get((config.key, name), 0) >= most:
                return f"{name} has given its {most:,} answers"
        if config.unit == "cluster":
            return "it assigns clusters, which a server does not know of its users"
        for arm in config.arms:
            mine = live if arm.run in (None, live.run) else self.runs.get(arm.run)
            if mine is None:
                return f"variant {arm.name}: {self.runs.why_not(arm.run)}"
            try:
                mine.way(written([arm.pipeline])).everybody(())
            except RecsysError as error:
                return error.message.splitlines()[0]
        return None

    def forget(self) -> None:
        """Anybody's variants may have changed."""
        self._held.clear()

    def changed(self, users: object) -> None:
        """Attributes of some people may have changed."""
        for user in users:
            self._held.pop(user, None)

    def of(self, user_id: str, attributes: Callable[[str, set[str]], Mapping[str, Any]]) -> Arms:
        """The variants of a person today. attributes: gives what is known of a person in some columns."""
        if not self.running:
            return NONE
        held = self._held.get(user_id)
        if held is None:
            wanted = {column for e in self.running for column in e.config.targeting}
            known = {c: [v] for c, v in attributes(user_id, wanted).items()} if wanted else None
            found = {key: arms[0] for key, arms in variants_of(self.running, [user_id], known).items()}
            held = self._held[user_id] = self._mixed({key: arm for key, arm in found.items() if arm is not None})
            if len(self._held) > KEPT:
                self._held.popitem(last=False)
        return held

    def forced(self, names: Mapping[str, str], pipeline: Mapping[str, Any]) -> Arms:
        """Variants that a request names, whoever asks; raises UsageError. Nobody is exposed by it."""
        for key, name in names.items():
            arms = {arm.name: arm for arm in self._config(key).arms}
            if name not in arms:
                raise UsageError(f"experiment {key} has no variant {name[:40]!r}", did_you_mean(name, arms, None))
        made = self._made(names)
        return Arms(made.names, written([*self._pipelines(names), pipeline]), made.run)

    def _config(self, key: str):
        running = {e.config.key: e.config for e in self.running}
        if key not in running:
            raise UsageError(f"no experiment {key[:80]!r} is served", did_you_mean(key, running, None))
        return running[key]

    def _arms(self, names: Mapping[str, str]) -> list[Arm]:
        return [next(arm for arm in self._config(key).arms if arm.name == names[key]) for key in sorted(names)]

    def _pipelines(self, names: Mapping[str, str]) -> list[dict[str, Any]]:
        return [arm.pipeline for arm in self._arms(names)]

    def _mixed(self, names: dict[str, str]) -> Arms:
        """As `_made`; of an interleaved experiment a person has all variants at once."""
        config = next((self._config(key) for key in sorted(names) if self._config(key).interleave), None)
        if config is None:
            return self._made(names)
        others = {key: name for key, name in names.items() if key != config.key}
        under = self._pipelines(others)
        ways = tuple(written([*under, arm.pipeline]) for arm in config.arms)
        told = others | {config.key: INTERLEAVED}
        return Arms(told, ways[0], told=told_of(told), mixed=ways, method=config.interleave)

    def _made(self, names: Mapping[str, str]) -> Arms:
        if not names:
            return NONE
        runs = [arm.run for arm in self._arms(names) if arm.run is not None]
        return Arms(dict(names), written(self._pipelines(names)), runs[-1] if runs else None, told_of(names))

    def answered(self, arms: Arms) -> None:
        """One answer more by some variants; an experiment of which one has given as many as it may is served no longer
        by this server."""
        for key, name in arms.names.items() if arms.told else ():
            config = next((e.config for e in self.running if e.config.key == key), None)
            most = None if config is None else config.most_answers.get(name)
            if most is None:
                continue
            n = self._answers[key, name] = self._answers.get((key, name), 0) + 1
            if n >= most:
                self.running = [e for e in self.running if e.config.key != key]
                self.troubles = [*self.troubles, f"experiment {key}: {name} has given its {most:,} answers"]
                self.forget()


def require_way(live: Live, overrides: str) -> None:
    """Raises UsageError where the settings of a request are no pipeline."""
    try:
        live.way(overrides)
    except ConfigError as error:
        raise UsageError(error.message, error.hint) from None


def _met(started: Started, running: list[Started]) -> str | None:
    """Why an interleaved experiment cannot be served beside those that are."""
    if started.config.interleave is None:
        return None
    if any(arm.run is not None for arm in started.config.arms):
        return "it mixes lists, and those of different runs are not mixed"
    other = next((e.config.key for e in running if e.config.interleave), None)
    return None if other is None else f"{other} mixes lists already, and a list is mixed once"


LOOK_SECONDS = 1.0
"""How often the experiments are looked at."""


async def follow(
    experiments: Experiments, live: Callable[[], Live], told: Callable[[str], None],
    load: Callable[[str], Awaitable[Live]], retire: Callable[[Live], None],
) -> None:
    """Look at the experiments until this is cancelled. told: is told why one is not served. load, retire: a run that a
    variant names, or named (`VariantRuns.settle`)."""
    import asyncio

    while True:
        began = time.monotonic()
        if await asyncio.to_thread(experiments.look, live()):
            for trouble in experiments.troubles:
                told(trouble)
        await experiments.runs.settle(load, retire)
        await asyncio.sleep(max(LOOK_SECONDS - (time.monotonic() - began), LOOK_SECONDS / 2))
