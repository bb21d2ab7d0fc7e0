"""`recsys serve`: recommendations over HTTP, and the events that follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from recsys_cli.settings import Settings

PARTS = ("starlette", "uvicorn", "uvloop", "httptools", "msgspec", "prometheus_client")


@command(app, "serve")
def serve(
    call: Invocation,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on  [default: serving.host]")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="0 takes a free one  [default: serving.port]")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="realtime, hybrid or batch  [default: serving.mode]")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Run id  [default: the one in use, and whichever follows it]")
    ] = None,
    retrain: Annotated[
        str | None, typer.Option("--retrain", metavar="WHEN", help="Learn again hourly, daily, or by a cron expression "
                                 "(UTC), behind gates  [default: live.retraining.schedule]")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Generate a small world and train on it first, where nothing is trained")
    ] = False,
    playground: Annotated[
        bool, typer.Option("--playground", help="Like --demo, and simulated people use the server meanwhile")
    ] = False,
) -> None:
    """Serve recommendations over HTTP and take the events that follow; `recsys docs serving` tells how to ask.

    Stops at Ctrl-C or SIGTERM once the requests that run are answered and every event is on the disk.
    """
    require_parts("serve", PARTS)
    given = {"host": host, "port": port, "mode": mode}
    settings = _with(call.config, {name: value for name, value in given.items() if value is not None})
    if retrain is not None:
        learning = settings.live.retraining.model_copy(update={"schedule": retrain})
        settings = settings.model_copy(update={"live": settings.live.model_copy(update={"retraining": learning})})
    from recsys_cli.live.added import added

    more = added(settings)
    _require_run(call, settings, demo or playground)
    from recsys_cli.serving.server import serve as serve_settings

    if not playground:
        serve_settings(settings, run, call.trace, call.say, added=more)
        return
    from recsys_cli.serving.playground import Playground

    with Playground(settings, call.say) as people:
        serve_settings(settings, run, call.trace, call.say, people.begin, more)


def require_parts(extra: str, parts: tuple[str, ...]) -> None:
    """Raises UsageError where packages of an extra are missing."""
    from importlib.util import find_spec

    missing = [part for part in parts if find_spec(part) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} is not installed", f"run `pip install 'recsys-cli[{extra}]'`")


def _with(settings: Settings, given: dict) -> Settings:
    from recsys_cli.config import validate
    from recsys_cli.serving.config import ServingConfig

    if not given:
        return settings
    tree = settings.serving.model_dump() | given
    return settings.model_copy(update={"serving": validate(ServingConfig, tree)})


def _require_run(call: Invocation, settings: Settings, demo: bool) -> None:
    """Raises ArtifactError telling what to run first, where nothing is trained and no demonstration is wanted."""
    from recsys_cli.artifacts.runs import RunStore

    if RunStore(settings.paths.artifacts).current() is not None:
        return
    data = Path(settings.paths.data)
    there = (data / "dataset.json").is_file()
    if not demo:
        steps = ["recsys train"] if there else ["recsys generate-data", "recsys train"]
        told = " and then ".join(f"`{step}`" for step in steps)
        where = settings.paths.artifacts
        raise ArtifactError(f"nothing is trained in {where}", f"run {told}, or `recsys serve --demo`")
    _train_demo(call, settings, there)


DEMO = {"users": 300, "items": 2_000, "days": 14}
"""Size of the world that a demonstration generates: trained on within a minute or two."""


def _train_demo(call: Invocation, settings: Settings, there: bool) -> None:
    from recsys_cli.config import validate
    from recsys_cli.training import train
    from recsys_cli.world.config import WorldConfig

    if not there:
        from recsys_cli.world.generate import generate

        call.say(f"generating a world of {DEMO['users']:,} users in {settings.paths.data}")
        world = validate(WorldConfig, settings.world.model_dump(mode="json") | DEMO)
        generate(world, settings.seed, Path(settings.paths.data), threads=settings.threads, progress=call.progress)
    call.say(f"training on {settings.paths.data}; this takes a minute or more")
    train(settings, progress=call.progress, trace=call.trace)
