"""A process that has everything imported and forks for each command: hundreds of commands, each in a process of its
own that can be killed, in the time that a dozen would take to start.

`python forking.py` reads one JSON object a line — {"argv", "cwd", "fault", "limit"} — runs `recsys ARGV` in a fork and
answers with {"code", "out", "err", "cpu", "wall", "events"}. A fault is one of

- {"kind": "kill", "event": NAME, "at": n}: the process kills itself at the n-th audit event of this name;
- {"kind": "kill after", "seconds": s}: it is killed from outside after s seconds;
- {"kind": "fail", "errno": NAME, "at": n, "under": FOLDER}: from the n-th step that needs the disk below FOLDER on,
  every such step fails;
- {"kind": "count", "event": NAME}: nothing happens; events are counted.

Python tells of every file that it opens, moves or makes (PEP 578): faults need no hook in the program.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import json
import os
import select
import signal
import sys
import tempfile
import time

PRELOADED = (
    "recsys_cli.cli.common", "recsys_cli.settings", "recsys_cli.engine", "recsys_cli.training.train",
    "recsys_cli.training.rankers", "recsys_cli.retrieval.registry", "recsys_cli.world.generate", "torch", "polars",
    "pyarrow.parquet", "pyarrow.dataset", "scipy.sparse", "scipy.stats", "sklearn.linear_model", "lightgbm", "implicit",
    "onnxruntime", "onnx", "faiss", "typer", "rich.table",
)
WRITING = ("open", "os.mkdir", "os.link", "os.rename", "os.truncate", "os.symlink")
"""Events that need the disk to take something."""


class Faults:
    """An audit hook that counts events, kills, or fails."""

    def __init__(self, fault: dict | None, counted: int):
        self.fault, self.seen, self.counted = fault or {"kind": "none"}, 0, counted

    def __call__(self, event: str, arguments: tuple) -> None:
        kind = self.fault["kind"]
        if kind in ("kill", "count") and event == self.fault["event"]:
            self.note()
            if kind == "kill" and self.seen == self.fault["at"]:
                os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "fail" and event in WRITING and self.meant(event, arguments):
            self.note()
            if self.seen >= self.fault["at"]:
                number = getattr(errno, self.fault["errno"])
                raise OSError(number, os.strerror(number), str(arguments[0]))

    def note(self) -> None:
        self.seen += 1
        os.pwrite(self.counted, str(self.seen).encode(), 0)

    def meant(self, event: str, arguments: tuple) -> bool:
        path = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else bool(flags & 0o3)
            if not writes:
                return False
        if isinstance(path, int):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.fault["under"])


def child(request: dict, out: int, err: int, counted: int) -> None:
    """Run the command in this process, which ends with it."""
    os.setsid()
    os.chdir(request["cwd"])
    for number, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(number, target)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    sys.argv = ["recsys", *request["argv"]]
    sys.addaudithook(Faults(request.get("fault"), counted))
    from recsys_cli.cli import main

    try:
        main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    os._exit(code)


def serve(request: dict) -> dict:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as counted:
        began = time.monotonic()
        process = os.fork()
        if process == 0:
            child(request, out.fileno(), err.fileno(), counted.fileno())
        fault = request.get("fault") or {}
        limit = fault["seconds"] if fault.get("kind") == "kill after" else request.get("limit", 120)
        handle = os.pidfd_open(process)
        ended, _, _ = select.select([handle], [], [], limit)
        os.close(handle)
        if not ended:
            os.kill(process, signal.SIGKILL)
        _, status, used = os.wait4(process, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # children of one that was killed
        texts = []
        for stream in (out, err, counted):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
        return {
            "code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1], "events": int(texts[2] or 0),
            "cpu": used.ru_utime + used.ru_stime, "wall": time.monotonic() - began,
        }


def main() -> None:
    # warm: what is imported here is imported by no fork, and nothing that starts a thread is called
    for name in PRELOADED:
        importlib.import_module(name)
    from recsys_cli.cli.common import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"recsys_cli.cli.{name}")
    from recsys_cli.config import resolve
    from recsys_cli.settings import Settings

    resolve(Settings)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
