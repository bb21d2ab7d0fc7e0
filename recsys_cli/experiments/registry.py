"""Experiments under way, as folders: frozen when they start, with their log and the decisions taken.

    artifacts/experiments/NAME/VERSION/
        experiment.json    what was started, never changed again
        state.json         running or stopped, since when, and the log it reads
        log.jsonl          exposures and outcomes that `record` wrote
        decisions.jsonl    every start, decision and stop with its moment

A server that serves experiments asks `running` once, `variants_of` for each request and calls `record`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cli.errors import ArtifactError, ConfigError, did_you_mean
from recsys_cli.experiments.assignment import assign_units
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.files import atomic_dir, is_name, write_bytes


@dataclass(frozen=True)
class Started:
    """An experiment that was started."""

    config: ExperimentConfig
    folder: Path
    state: str
    """running or stopped"""
    started_at: datetime
    stopped_at: datetime | None
    log: Path | None
    """where exposures and outcomes are written by others; None where `record` writes them"""

    @property
    def day(self) -> int:
        """Day of the experiment from 1 on: today's, or that on which it was stopped."""
        return ((self.stopped_at or datetime.now(UTC)) - self.started_at).days + 1

    @property
    def recorded(self) -> Path:
        return self.folder / "log.jsonl"


class ExperimentRegistry:
    """The experiments of an artifacts folder."""

    def __init__(self, artifacts: str | Path):
        self.folder = Path(artifacts) / "experiments"

    def names(self) -> list[str]:
        """Names of all experiments that were ever started."""
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if is_name(p.name) and self._versions(p.name))

    def _versions(self, name: str) -> list[int]:
        folder = self.folder / name
        there = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(v) for v in there if v.isdigit() and (folder / v / "state.json").is_file())

    def open(self, name: str, version: int | None = None) -> Started:
        """An experiment, the latest version by default. Raises ArtifactError where there is none, or it was changed."""
        versions = self._versions(name) if is_name(name) else []
        if not versions or (version is not None and version not in versions):
            hint = did_you_mean(name, self.names(), "`recsys ab-test list` shows what was started")
            what = f"{name!r}" if version is None else f"{name!r} version {version}"
            raise ArtifactError(f"no experiment {what} was started in {self.folder}", hint)
        return self._read(self.folder / name / str(version or versions[-1]))

    def _read(self, folder: Path) -> Started:
        try:
            frozen = json.loads((folder / "experiment.json").read_bytes())
            state = json.loads((folder / "state.json").read_bytes())
            config = ExperimentConfig.model_validate(frozen["experiment"])
            moments = (state["started_at"], state["stopped_at"])
            started, stopped = (datetime.fromisoformat(t) if t else None for t in moments)
            log = Path(state["log"]) if state["log"] else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{folder} cannot be read: {str(error).splitlines()[0]}", "restore it from a backup, or delete it"
            ) from None
        if config.digest() != frozen["digest"]:
            raise ArtifactError(
                f"{folder / 'experiment.json'} was changed since the experiment started",
                "a started experiment is frozen: restore the file, and start a change as the next version",
            )
        return Started(config, folder, state["state"], started, stopped, log)

    def all(self) -> list[Started]:
        """The latest version of every experiment, by name."""
        return [self.open(name) for name in self.names()]

    def before(self, started: Started) -> list[Started]:
        """Every version of every experiment that began before this one, the latest first."""
        every = [self.open(name, version) for name in self.names() for version in self._versions(name)]
        earlier = [e for e in every if e.started_at < started.started_at]
        return sorted(earlier, key=lambda e: e.started_at, reverse=True)

    def running(self) -> list[Started]:
        return [e for e in self.all() if e.state == "running"]

    def start(self, config: ExperimentConfig, log: Path | None = None) -> Started:
        """Freeze an experiment and begin it.

        log: file to which others write exposures and outcomes. Raises ConfigError where this version was started
        before, an earlier one still runs, or its places in a layer are taken.
        """
        versions = self._versions(config.name)
        if versions:
            last = self.open(config.name)
            if config.version <= versions[-1]:
                same = config.version == versions[-1] and config.digest() == last.config.digest()
                raise ConfigError(
                    f"experiment {config.name} version {config.version} "
                    + (f"is {last.state} already" if same else "was started, and the file has changed since"),
                    f"a started experiment is frozen: a new one is version {versions[-1] + 1}",
                )
            if last.state == "running":
                raise ConfigError(
                    f"experiment {config.name} version {versions[-1]} is running",
                    f"end it first: recsys ab-test stop {config.name}",
                )
        self._require_free_places(config)
        folder = self.folder / config.name / str(config.version)
        now = datetime.now(UTC)
        frozen = {"digest": config.digest(), "experiment": config.model_dump(mode="json")}
        started = Started(config, folder, "running", now, None, log.resolve() if log else None)
        with atomic_dir(folder, ours=lambda _: ("experiment.json",)) as temporary:
            (temporary / "experiment.json").write_bytes(json.dumps(frozen, indent=2).encode())
            beginning = replace(started, folder=temporary)
            self._write_state(beginning)
            self.log_decision(beginning, "start", config.hypothesis or config.description)
        return started

    def _require_free_places(self, config: ExperimentConfig) -> None:
        mine = config.layer
        for other in self.running():
            theirs = other.config.layer
            if mine is None or theirs is None or theirs.name != mine.name or other.config.name == config.name:
                continue
            if mine.start < theirs.end and theirs.start < mine.end:
                raise ConfigError(
                    f"experiment {config.name}: places {mine.start:g} to {mine.end:g} of layer {mine.name} overlap "
                    f"those of {other.config.name}, {theirs.start:g} to {theirs.end:g}",
                    "give it other places (layer.start, layer.end) or another layer",
                )

    def stop(self, name: str, reason: str = "") -> Started:
        """End an experiment for good. Raises ArtifactError where it does not run."""
        found = self.open(name)
        if found.state != "running":
            raise ArtifactError(f"experiment {name} was stopped on {found.stopped_at:%Y-%m-%d %H:%M} UTC", None)
        stopped = Started(found.config, found.folder, "stopped", found.started_at, datetime.now(UTC), found.log)
        self._write_state(stopped)
        self.log_decision(stopped, "stop", reason)
        return stopped

    def _write_state(self, started: Started) -> None:
        state = {
            "state": started.state,
            "started_at": started.started_at.isoformat(),
            "stopped_at": started.stopped_at.isoformat() if started.stopped_at else None,
            "log": str(started.log) if started.log else None,
        }
        write_bytes(started.folder / "state.json", json.dumps(state, indent=2).encode())

    def log_decision(self, started: Started, what: str, because: str | Sequence[str], **facts: Any) -> None:
        """Append to the experiment's log of decisions."""
        line = {"at": datetime.now(UTC).isoformat(), "what": what, "because": because, **facts}
        _append(started.folder / "decisions.jsonl", [line])

    def log_of(self, started: Started) -> Path:
        """Where exposures and outcomes stand: the log named at the start, else what `record` wrote, else the events of
        the server, where there are any."""
        served = self.folder.parent / "events"
        mine = started.log or started.recorded
        return served if started.log is None and not mine.is_file() and (served / "events.db").is_file() else mine

    def decisions(self, started: Started) -> list[dict[str, Any]]:
        path = started.folder / "decisions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def variants_of(
    experiments: Iterable[Started], user_ids: Sequence, attributes: Mapping[str, Sequence] | None = None
) -> dict[str, list[str | None]]:
    """Experiment → variant of each user today, None for who takes no part. For every request of a server.

    attributes: column → value of each user, for targeting; `cluster_id` where clusters are assigned. A user whose
    attributes are not known takes no part in what asks for them.
    """
    out = {}
    for experiment in experiments:
        config = experiment.config
        needed = [*config.targeting, *(["cluster_id"] if config.unit == "cluster" else [])]
        if any(column not in (attributes or {}) for column in needed):
            out[config.key] = [None] * len(user_ids)
            continue
        clusters = attributes["cluster_id"] if config.unit == "cluster" else None
        arms = assign_units(config, user_ids, clusters=clusters, attributes=attributes, day=experiment.day)
        names = np.array([arm.name for arm in config.arms] + [None], object)
        out[config.key] = names[arms].tolist()
    return out


def record(experiment: Started, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append exposures and outcomes: user_id, variant, timestamp (microseconds), exposed, and columns of metrics."""
    _append(experiment.recorded, ({"experiment": experiment.config.key, **row} for row in rows))


def _append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Whole lines at the end of a file, in one write, so that several processes may append."""
    content = b"".join(json.dumps(row, default=str).encode() + b"\n" for row in rows)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, content)
    finally:
        os.close(handle)
