"""`recsys doctor`: is everything here that the program needs?"""

from __future__ import annotations

from pathlib import Path

from recsys_cli.cli.common import Invocation, app, command

PACKAGES = (
    "numpy",
    "polars",
    "pyarrow",
    "scipy",
    "scikit-learn",
    "torch",
    "implicit",
    "lightgbm",
    "faiss-cpu",
    "onnx",
    "onnxruntime",
    "pydantic",
    "PyYAML",
    "rich",
    "typer",
    "orjson",
)


@command(app, "doctor")
def doctor(call: Invocation) -> None:
    """Check Python, packages, processors, memory, disk, the dataset and the run in use; say what is missing."""
    checks = [*_environment(), *_packages(), *_project(call)]

    def render(console) -> None:
        from rich.table import Table

        table = Table("check", "found", "", box=None, header_style="bold")
        for check in checks:
            mark = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}[check["status"]]
            table.add_row(check["check"], check["found"], mark)
        console.print(table)

    call.emit(checks, render)
    if any(check["status"] == "missing" for check in checks):
        from recsys_cli.errors import RecsysError

        missing = ", ".join(c["check"] for c in checks if c["status"] == "missing")
        raise RecsysError(f"missing: {missing}", "install the project again: pip install .")


def _check(name: str, found: str, status: str = "ok") -> dict:
    return {"check": name, "found": found, "status": status}


def _environment() -> list[dict]:
    import os
    import platform
    import shutil
    import sys

    version = ".".join(map(str, sys.version_info[:3]))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(".").free / 2**30
    return [
        _check("python", version, "ok" if sys.version_info >= (3, 11) else "missing"),
        _check("platform", platform.platform()),
        _check("cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())),
        _check("memory", f"{memory:.1f} GiB", "ok" if memory >= 4 else "note"),
        _check("free disk", f"{free:.1f} GiB", "ok" if free >= 2 else "note"),
    ]


def _packages() -> list[dict]:
    from importlib.metadata import PackageNotFoundError, version

    out = []
    for name in PACKAGES:
        try:
            out.append(_check(name, version(name)))
        except PackageNotFoundError:
            out.append(_check(name, "not installed", "missing"))
    return out


def _project(call: Invocation) -> list[dict]:
    from recsys_cli.artifacts.runs import RunStore
    from recsys_cli.data.dataset import read_manifest
    from recsys_cli.errors import RecsysError

    config = call.config
    out = [_check("configuration", str(call.config_file or "defaults"))]
    try:
        manifest = read_manifest(config.paths.data)
        out.append(
            _check(
                "dataset", f"{config.paths.data}: {manifest.name}, {manifest.tables['impressions'].rows:,} impressions"
            )
        )
    except RecsysError as error:
        out.append(_check("dataset", error.message, "note"))
    try:
        out.append(_check("run in use", RunStore(config.paths.artifacts).open().id))
    except RecsysError as error:
        out.append(_check("run in use", error.message, "note"))
    return [*out, *_rights(Path(config.paths.artifacts), Path(config.paths.data))]


def _rights(*folders: Path) -> list[dict]:
    """What others may write, or have made, among artifacts and data: bundles hold graphs that are executed."""
    import os
    import stat

    out = []
    for folder in folders:
        places = [folder, *(folder / "runs").glob("*")] if folder.is_dir() else []
        for place in places:
            try:
                found = place.stat()
            except OSError:
                continue
            if found.st_mode & stat.S_IWOTH:
                out.append(_check("rights", f"{place} can be written by everybody: chmod o-w {place}", "note"))
            if found.st_uid not in (os.geteuid(), 0):
                out.append(_check("owner", f"{place} was made by user {found.st_uid}; open it only if you trust them",
                                  "note"))
    return out
