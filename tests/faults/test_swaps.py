"""A folder that replaces another does so in one step, or in two of which the first is undone."""

import errno
import os
import subprocess
import sys

import pytest

from recsys_cli import files
from recsys_cli.errors import RecsysError
from recsys_cli.files import atomic_dir, write_bytes

SWAP = """
import os, signal, sys
from pathlib import Path
from recsys_cli import files
seen = 0
def hook(event, arguments):
    global seen
    if event == "os.rename":
        seen += 1
        if seen == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "two steps":
    files._exchange = lambda first, second: False
sys.addaudithook(hook)
with files.atomic_dir(sys.argv[1], ours=lambda folder: {"a"}) as folder:
    (folder / "a").write_text("new")
"""


def content(folder):
    return (folder / "a").read_text()


def killed(folder, at, steps):
    command = [sys.executable, "-c", SWAP, str(folder), str(at), steps]
    return subprocess.run(command, check=False, capture_output=True).returncode


def begin(folder):
    with atomic_dir(folder) as temporary:
        (temporary / "a").write_text("old")


def test_killed_before_the_one_step_the_old_folder_is_there(tmp_path):
    begin(tmp_path / "set")
    assert killed(tmp_path / "set", 1, "one step") == -9 and content(tmp_path / "set") == "old"
    files._swept.clear()
    write_bytes(tmp_path / "other", b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "set"] and content(tmp_path / "set") == "old"
    assert killed(tmp_path / "set", 2, "one step") == 0 and content(tmp_path / "set") == "new"


@pytest.mark.parametrize("at", [1, 2])
def test_killed_between_two_steps_the_old_folder_is_put_back_by_whoever_writes_next(tmp_path, at):
    begin(tmp_path / "set")
    assert killed(tmp_path / "set", at, "two steps") == -9 and (tmp_path / "set").exists() == (at == 1)
    files._swept.clear()
    write_bytes(tmp_path / "other", b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "set"] and content(tmp_path / "set") == "old"
    assert killed(tmp_path / "set", 3, "two steps") == 0 and content(tmp_path / "set") == "new"


def test_a_second_step_that_fails_undoes_the_first(tmp_path, monkeypatch):
    begin(tmp_path / "set")
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    real, seen = os.replace, []

    def replace(source, target):
        seen.append(source)
        if len(seen) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(RecsysError, match="Input/output error"), atomic_dir(tmp_path / "set", ours=os.listdir) as new:
        (new / "a").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["set"] and content(tmp_path / "set") == "old"
