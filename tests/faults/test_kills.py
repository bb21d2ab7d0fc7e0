"""Commands that are killed: what was there is whole, and the next command leaves no trace of the killed one."""

from __future__ import annotations

import numpy as np
import pytest
from commands import CHOSEN, Command, copy_project
from wholeness import names, put_earlier, require_whole

from recsys_cli.artifacts.runs import RunStore

KILLED = -9
RANDOM = 1
"""Kills at random moments of each command, beside those before renames."""


def begin(forked, project, folder, command: Command) -> str:
    """A copy of the project in which the command can run; returns its line."""
    copy_project(project, folder)
    for line in command.first:
        forked.done(line, folder)
    runs = RunStore(folder / "artifacts")
    return command.line.format(run=runs.current(), other=runs.ids()[0])


@pytest.mark.slow
@pytest.mark.parametrize("command", CHOSEN, ids=lambda command: command.name.replace(" ", "-"))
def test_a_command_may_be_killed_at_any_moment(forked, project, tmp_path, command):
    clean, folder = tmp_path / "clean", tmp_path / "killed"
    line = begin(forked, project, clean, command)
    plain = forked(line, clean)
    assert plain["code"] in command.codes, plain["err"]
    begin(forked, project, folder, command)
    put_earlier(folder, command.files)
    kill_before_every_rename(forked, line, folder, command)
    for share in np.random.default_rng(len(line)).uniform(0, 1, RANDOM):
        forked(line, folder, {"kind": "kill after", "seconds": float(share * plain["wall"])})
        require_whole(folder, command.files)
    last = forked(line, folder)
    assert last["code"] in command.again, last["err"]
    require_whole(folder, command.files)
    assert names(folder) == names(clean)


def kill_before_every_rename(forked, line, folder, command) -> None:
    """Until a call ends by itself; every call but the first is the next command of one that was killed."""
    for at in range(1, 100, command.step):
        got = forked(line, folder, {"kind": "kill", "event": "os.rename", "at": at})
        require_whole(folder, command.files)
        if got["code"] != KILLED:
            assert got["events"] < at and got["code"] in command.again, got["err"]
            return
    pytest.fail("a hundred renames")
