"""Handlers of the paths about experiments."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from recsys_cli.errors import ArtifactError, RecsysError, UnknownIdError
from recsys_cli.serving.keys import Refused
from recsys_cli.serving.routes import Call, Path
from recsys_cli.serving.structs import ExperimentInfo, ExperimentList, Reason

_definition = msgspec.json.Decoder(dict[str, Any]).decode
_reason = msgspec.json.Decoder(Reason).decode


def _told(call: Call, started) -> ExperimentInfo:
    config, served = call.service.experiments, started.config
    return ExperimentInfo(
        served.name, served.version, started.state, started.day, served.days, [arm.name for arm in served.arms],
        any(e.config.key == served.key for e in config.running), served.deciding, started.started_at.isoformat(),
        None if started.stopped_at is None else started.stopped_at.isoformat(),
    )


async def listed(call: Call) -> ExperimentList:
    experiments = call.service.experiments
    found = await asyncio.to_thread(experiments.registry.all)
    return ExperimentList([_told(call, started) for started in found], experiments.troubles)


async def one(call: Call) -> ExperimentInfo:
    return _told(call, await asyncio.to_thread(_open, call, call.params["name"]))


def _open(call: Call, name: str):
    try:
        return call.service.experiments.registry.open(name)
    except ArtifactError:
        raise UnknownIdError(f"no experiment {name[:80]!r} was started") from None


async def start(call: Call) -> ExperimentInfo:
    """Freeze an experiment and begin it."""
    definition = _definition(call.body)

    def begin():
        from recsys_cli.config import validate
        from recsys_cli.experiments.config import ExperimentConfig, resolve_pipelines

        try:
            config = validate(ExperimentConfig, definition)
            resolve_pipelines(config, call.service.live.trained.pipeline)
            return call.service.experiments.registry.start(config)
        except RecsysError as error:
            raise Refused(422, "refused", error.message, error.hint) from None

    return await _now(call, await asyncio.to_thread(begin))


async def stop(call: Call) -> ExperimentInfo:
    """End an experiment for good."""
    name = call.params["name"]
    reason = _reason(call.body).reason if call.body else ""

    def end():
        _open(call, name)
        try:
            return call.service.experiments.registry.stop(name, reason)
        except ArtifactError as error:
            raise Refused(409, "stopped", error.message) from None

    return await _now(call, await asyncio.to_thread(end))


async def _now(call: Call, started) -> ExperimentInfo:
    """What is told counts from this answer on."""
    service = call.service
    await asyncio.to_thread(service.experiments.look, service.live)
    return _told(call, started)


PATHS = [
    Path("GET", "/v1/experiments", listed, "read", "The experiments", ExperimentList),
    Path("POST", "/v1/experiments", start, "admin", "Begin an experiment, as its YAML file says it", ExperimentInfo,
         dict[str, Any]),
    Path("GET", "/v1/experiments/{name}", one, "read", "An experiment", ExperimentInfo),
    Path("POST", "/v1/experiments/{name}/stop", stop, "admin", "End an experiment for good", ExperimentInfo, Reason,
         optional=True),
]
