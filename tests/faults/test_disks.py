"""Disks that are full, read-only or broken: one line, exit code 1, and what was there is as it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from commands import CHOSEN, Command, copy_project
from wholeness import put_earlier, require_whole

from recsys_cli.artifacts.runs import RunStore

pytestmark = pytest.mark.slow
BROKEN = {"ENOSPC": "No space left", "EROFS": "Read-only file system", "EIO": "Input/output error"}


def told_in_a_line(got: dict, *words: str) -> None:
    lines = got["err"].strip().splitlines()
    assert got["code"] == 1 and len(lines) <= 2 and lines[0].startswith("recsys: "), got["err"]
    assert any(word in got["err"] for word in words), got["err"]


def rubbish(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".") and path.suffix in (".tmp", ".old")]


@pytest.mark.parametrize("command", CHOSEN, ids=lambda command: command.name.replace(" ", "-"))
def test_a_disk_that_fails_at_some_step_is_told_and_nothing_is_lost(forked, project, tmp_path, command: Command):
    """The first, third and seventh step and all after it, each with another error."""
    folder = copy_project(project, tmp_path / "project")
    for line in command.first:
        forked.done(line, folder)
    runs = RunStore(folder / "artifacts")
    line = command.line.format(run=runs.current(), other=runs.ids()[0])
    put_earlier(folder, command.files)
    earlier = [(folder / name).read_bytes() for name in command.files]
    last = 1
    for number, words in BROKEN.items():
        fault = {"kind": "fail", "errno": number, "at": last, "under": str(folder)}
        got = forked(line, folder, fault)
        require_whole(folder, command.files)
        assert not rubbish(folder)
        if got["code"] in command.codes:  # what it could not write was a log alone
            assert got["events"] <= last + 1, got
            break
        told_in_a_line(got, words)
        if len(command.files) < 2:  # the first of several may be there already
            assert [(folder / name).read_bytes() for name in command.files] == earlier
        last = 2 * last + 1


@pytest.fixture
def small_disk(tmp_path) -> Path:
    """A disk of two MiB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("nothing may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place: Path, leave: int) -> None:
    free = os.statvfs(place)
    (place / "filled").write_bytes(b"\1" * max(0, free.f_bavail * free.f_frsize - leave))


@pytest.mark.parametrize("line", [
    "generate-data -q --data-dir {disk}/data", "train -q --artifacts-dir {disk}/artifacts",
    "import-data map.yaml -q --to {disk}/imported", "recommend --all -n 5 --output {disk}/all.parquet -q",
    "data sample --users 30 --to {disk}/sample -q", "ab-test run test.yaml --save-log {disk}/log.parquet -q",
])
@pytest.mark.parametrize("room", [0, 8192])
def test_a_disk_that_fills_up_is_told_and_left_as_it_was(forked, project, small_disk, line, room):
    fill(small_disk, room)
    got = forked(line.format(disk=small_disk), project)
    told_in_a_line(got, "No space left")
    assert not rubbish(small_disk)
    left = {path.name for path in small_disk.iterdir()}
    assert left <= {"filled", "artifacts"}, left
    assert not RunStore(small_disk / "artifacts").ids()


def test_a_disk_that_may_only_be_read_is_told_and_what_is_on_it_can_be_used(forked, project, small_disk):
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    folder = copy_project(project, small_disk / "project")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for line in ("recommend --user 1 -q", "evaluate --users 5 --artifacts-dir artifacts -q", "data describe -q"):
        got = forked(line, folder)
        if line.startswith("evaluate"):
            told_in_a_line(got, "Read-only")  # it keeps a report
        else:
            assert got["code"] == 0 and got["out"], got["err"]
    for line in ("generate-data -q", "train -q", "recommend --user 1 --output r.json -q", "runs use {run} -q"):
        told_in_a_line(forked(line.format(run=RunStore(folder / "artifacts").current()), folder), "Read-only")
