"""Work as tasks: in this process, or on the machines of a Ray cluster.

Both give the same results in the same order. What tasks have in common is handed over once (`share`, `folder`). A task
whose worker or machine is lost is begun again by Ray (Moritz et al., OSDI 2018): tasks are functions of their
arguments, so that nothing is changed by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field, PositiveFloat, field_validator

from recsys_cli.config import Section
from recsys_cli.errors import RecsysError, UsageError
from recsys_cli.parcel import Absent, Parcel, Sent

if TYPE_CHECKING:
    from recsys_cli.progress import Progress

EngineKind = Literal["local", "ray"]
Made = TypeVar("Made")
LOST = "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError", "OwnerDiedError"
FULL = "ObjectStoreFullError", "OutOfDiskError"
AGAIN = "nothing was changed; run the command again when it is there"


class RayConfig(Section):
    """The cluster that `engine: ray` works on."""

    address: str | None = None
    """Cluster to join, host:port or auto (the one of this machine); the command runs on one of its machines. Null takes
    RAY_ADDRESS, and where that is not set starts a cluster on this machine for as long as the command runs."""
    connect_seconds: Annotated[PositiveFloat, Field(le=3600)] = 30.0
    """How long a cluster may take to answer, and to have a core again where all are lost."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    """Times that a task is begun again whose worker or machine was lost."""

    @field_validator("address")
    @classmethod
    def _of_a_machine_of_the_cluster(cls, address: str | None) -> str | None:
        if address is not None and address != "auto":
            host, _, port = address.rpartition(":")
            if "://" in address or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
                raise ValueError("an address is host:port, or auto (from elsewhere: `ray job submit`)")
        return address


class Outcome(Protocol):
    """What a task will give."""

    def result(self) -> Any:
        """Waits for it. Raises what the task raised."""


class Tasks(Protocol):
    """Where tasks are done."""

    def share(self, value: Any) -> Any:
        """A value that many tasks are given, in the form in which it is given to them."""

    def folder(self, root: str | Path, within: str = "") -> Any:
        """Likewise a folder of files, which may lie below a folder: what tasks get is the path of `root`."""

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Outcome:
        """Hand over a call of a function of a module."""

    def map(self, function: Callable[..., Made], items: Iterable[Any], *common: Any) -> Iterator[Made]:
        """function(*common, item) of each item, in their order; several are under way at once."""


class _Later:
    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]):
        self._function, self._arguments = function, arguments

    def result(self) -> Any:
        return self._function(*self._arguments)


class Here:
    """Tasks that are done in this process, where their result is asked for."""

    def share(self, value: Any) -> Any:
        return value

    def folder(self, root: str | Path, within: str = "") -> Path:
        return Path(root)

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Outcome:
        return _Later(function, arguments)

    def map(self, function: Callable[..., Made], items: Iterable[Any], *common: Any) -> Iterator[Made]:
        return (function(*common, item) for item in items)


@dataclass(frozen=True)
class _Refused:
    """What a person can mend comes back as a value, with its hint."""

    error: RecsysError


@dataclass(frozen=True)
class _Done:
    value: Any


def _version() -> str:
    from importlib.metadata import version

    return version("recsys-cli")


def _task(version: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Done | _Refused | Absent:
    """A call on a worker, its arguments opened; with one BLAS thread, as results are told apart by how sums round."""
    from recsys_cli.parallel import one_blas_thread

    if version != (here := _version()):
        return _Refused(RecsysError(
            f"a machine of the cluster has recsys-cli {here}, and this one {version}",
            "install the same on every machine",
        ))
    try:
        opened = [argument.opened() if isinstance(argument, Sent) else argument for argument in arguments]
        with one_blas_thread():
            return _Done(function(*opened))
    except Absent as absent:
        return absent
    except RecsysError as error:
        return _Refused(error)


class _Remote:
    """A task under way on the cluster."""

    def __init__(self, cluster: Cluster, function: Callable[..., Any], arguments: tuple[Any, ...]):
        self._cluster, self._call = cluster, (function, arguments)
        self._ref = cluster._submit(*self._call)

    def result(self) -> Any:
        found = self._cluster._wait(self._ref)
        while isinstance(found, Absent):  # a machine that does not see the files: they are sent
            self._cluster._fill(found.mark)
            self._ref = self._cluster._submit(*self._call)
            found = self._cluster._wait(self._ref)
        if isinstance(found, _Refused):
            raise found.error
        return found.value

    def cancel(self) -> None:
        with contextlib.suppress(Exception):
            self._cluster._ray.cancel(self._ref, force=True)


class Cluster:
    """A Ray cluster that this process has joined."""

    def __init__(self, ray: Any, config: RayConfig):
        self._ray, self._config = ray, config
        self._remote = ray.remote(num_cpus=1, max_retries=config.retries)(_task)
        self._version, self._parcels = _version(), {}
        self._lock = threading.Lock()
        self._cores = 0
        self._seen = time.monotonic()
        self._require_cores()

    @property
    def cores(self) -> int:
        """Cores of the cluster when it was last looked at."""
        return self._cores

    def share(self, value: Any) -> Sent:
        with _told():
            return Shared(self._ray.put(value))

    def folder(self, root: str | Path, within: str = "") -> Parcel:
        parcel = Parcel.of(Path(root).resolve(), within)
        return self._parcels.setdefault(parcel.mark, parcel)

    def begin(self, function: Callable[..., Any], *arguments: Any) -> _Remote:
        return _Remote(self, function, arguments)

    def map(self, function: Callable[..., Made], items: Iterable[Any], *common: Any) -> Iterator[Made]:
        left, waiting = iter(items), deque()

        def fill() -> None:
            while len(waiting) < 2 * self._cores + 2:  # more would only lie in the object store
                item = next(left, waiting)
                if item is waiting:
                    return
                waiting.append(self.begin(function, *common, item))

        def results() -> Iterator[Made]:
            try:
                while waiting:
                    result = waiting.popleft().result()
                    fill()
                    yield result
            finally:
                for remote in waiting:
                    remote.cancel()

        fill()
        return results()

    def _submit(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with _told():
            return self._remote.remote(self._version, function, arguments)

    def _fill(self, mark: str) -> None:
        with self._lock, _told():
            self._parcels[mark].fill(self._ray.put)

    def _wait(self, ref: Any) -> Any:
        """The result of a task; raises RecsysError where it, or every core of the cluster, is lost."""
        with _told():
            while not self._ray.wait([ref], timeout=2.0)[0]:
                self._require_cores(wait=False)
            return self._ray.get(ref)

    def _require_cores(self, wait: bool = True) -> None:
        """Raises RecsysError where the cluster has had no core for `connect_seconds`."""
        while True:
            found = int(self._ray.cluster_resources().get("CPU", 0))
            now = time.monotonic()
            if found:
                self._cores, self._seen = found, now
                return
            if now - self._seen > self._config.connect_seconds:
                raise RecsysError("the Ray cluster has no machine with a core that is free for tasks", AGAIN)
            if not wait:
                return
            time.sleep(0.2)


_values: dict[str, Any] = {}


class Shared(Sent):
    """A value in the object store of the cluster."""

    def __init__(self, ref: Any):
        self._ref = ref

    def opened(self) -> Any:
        import ray

        key = self._ref.hex()
        if key not in _values:
            while len(_values) >= 8:  # of some tasks ago
                del _values[next(iter(_values))]
            _values[key] = ray.get(self._ref)
        return _values[key]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What Ray raises, in words: who runs a command need not know its exceptions."""
    import ray.exceptions as refusals

    try:
        yield
    except refusals.RayTaskError as error:
        if isinstance(error.cause, ModuleNotFoundError):
            raise RecsysError(
                f"a machine of the cluster lacks {error.cause.name}", "install recsys-cli with the same extras there"
            ) from error
        raise error.cause from error
    except refusals.RayError as error:
        name, told = type(error).__name__, next(iter(str(error).strip().splitlines()), "")[:200]
        if name in FULL:
            raise RecsysError(
                f"the object store of the cluster is full: {told}",
                "give its machines more memory or room on the disk, or write more --shards",
            ) from error
        if name in LOST:
            raise RecsysError(
                f"a task was lost with its worker more often than ray.retries allows: {told}",
                "where memory ended: fewer tasks a machine (`ray start --num-cpus`), or machines with more of it",
            ) from error
        raise RecsysError(f"the Ray cluster refused: {name}: {told}", AGAIN) from error


def require_ray() -> None:
    """Raises UsageError where Ray is not installed, naming the extra that brings it."""
    if find_spec("ray") is None:
        raise UsageError(
            "engine ray needs ray, which is not installed", "run `pip install 'recsys-cli[distributed]'`"
        )


@contextlib.contextmanager
def tasks_of(kind: EngineKind, config: RayConfig, threads: int, progress: Progress) -> Iterator[Here | Cluster]:
    """Where a command works: `Here`, or a cluster that is joined, or started with `threads` cores (0: all), for as long
    as the block runs. Raises UsageError without Ray and RecsysError where the cluster does not answer in time."""
    if kind == "local":
        yield Here()
        return
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of what runs here
    import ray

    if ray.is_initialized():  # a program that has a cluster already
        yield Cluster(ray, config)
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    try:
        with _signals_kept():
            _join(ray, address, config, threads or len(os.sched_getaffinity(0)), progress)
        yield Cluster(ray, config)
    finally:
        ray.shutdown()


def _join(ray: Any, address: str | None, config: RayConfig, cores: int, progress: Progress) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        with progress.step(f"a cluster of {cores} cores on this machine"):
            ray.init(num_cpus=cores, include_dashboard=False, **quiet)
        return
    with progress.step(f"joining the cluster at {address}"):
        if address != "auto":
            _require_answer(address, config.connect_seconds)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            told = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
            raise RecsysError(
                f"cannot join the Ray cluster at {address}: {told}",
                "run the command on a machine of the cluster (`ray start --address=HOST:PORT` makes this one part)",
            ) from error


def _require_answer(address: str, seconds: float) -> None:
    """Raises RecsysError where no Ray cluster answers at host:port in time. Ray itself waits for minutes, and ends the
    process then; so another process asks first."""
    import socket
    import subprocess

    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    hint = "check ray.address and the network (on its head: `ray start --head` prints the address)"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise RecsysError(f"no Ray cluster answers at {address}: {told}", hint) from None
    try:
        asked = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address],
            capture_output=True, timeout=max(until - time.monotonic(), 1.0), check=False, stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise RecsysError(f"what answers at {address} is no Ray cluster (waited {seconds:g} s)", hint) from None
    if asked.returncode:
        raise RecsysError(f"the Ray cluster at {address} is not healthy", hint)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; a command ends by its own way of ending."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
