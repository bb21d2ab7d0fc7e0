"""The server as a process: it listens, runs the application and stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from recsys_cli.errors import ConfigError
from recsys_cli.serving.site import Site
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    import uvicorn

    from recsys_cli.serving.added import Added
    from recsys_cli.settings import Settings

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept."""
BACKLOG = 2_048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises ConfigError where the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use", "stop what listens there, or take --port 0") from None
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    sock.set_inheritable(False)
    return sock


def serve(
    settings: Settings, run: str | None = None, trace: TraceLog = SILENT,
    say: Callable[[str], None] = lambda text: None, at_place: Callable[[str], None] = lambda place: None,
    added: Added | None = None,
) -> None:
    """Serve until the process is told to stop (SIGTERM, SIGINT). at_place: is told the address once it is ready. added:
    paths, pages and work beside the server's own.

    Raises ArtifactError where there is no run or its log is taken, ConfigError where settings, keys or the port are no
    good.
    """
    import uvicorn

    from recsys_cli.serving.app import application

    config = settings.serving
    site = Site(settings, run, trace, added)
    sock = listen(config.host, config.port)
    site.open_log()
    host, port = sock.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    say(f"listening on {place}, run {site.run}")

    def ready(seconds: float) -> None:
        say(f"ready after {seconds:.2f} s; try {place}/v1/popular, or open {place}/dashboard")
        at_place(place)

    site.on_ready = ready
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    options = uvicorn.Config(
        application(site), loop="uvloop", http="httptools", ws="none", log_config=None, access_log=False,
        server_header=False, date_header=False, backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(config.stop_seconds) or 1, lifespan="on",
    )
    site.listening = asyncio.Event()
    with contextlib.suppress(SystemExit):  # how uvicorn ends where the application could not begin
        _server(options, site.listening).run(sockets=[sock])
    if site.failure is not None:
        raise site.failure
    say("stopped; everything acknowledged is on the disk")


def _server(options: uvicorn.Config, listening: asyncio.Event) -> uvicorn.Server:
    """A server that tells when its port takes connections, stops in order at the first signal, and ends as a program
    that was not killed."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listening.set()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            held = {s: signal.signal(s, self.handle_exit) for s in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in held.items():
                    signal.signal(number, handler)

    return Server(options)
