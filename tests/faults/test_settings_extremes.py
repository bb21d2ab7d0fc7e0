"""Settings at the ends of what they accept: who takes them recommends and trains by them, without a NaN."""

from __future__ import annotations

import contextlib
import copy
import random
import re

import pytest
from commands import EVERYTHING, copy_project
from test_settings_bounds import defaults, is_number, leaves, named, whole

from recsys_cli.bounds import LARGEST, MAX_NUMBER, MAX_WHOLE, MIN_NUMBER
from recsys_cli.settings import Settings

pytestmark = pytest.mark.slow
SECONDS = 30
NO_NUMBER = re.compile(r"\bNaN\b|\bnan\b|Infinity|\"(score|utility)\":\s*null")


def extremes(prefix: str, times: int) -> list[tuple[str, float]]:
    """Some (name of a leaf, number at an end of what it accepts), each time the same ones."""
    found = []
    for path, value in leaves(defaults()):
        name = ".".join(map(str, path))
        if not name.startswith(prefix) or not is_number(value) or any(isinstance(key, int) for key in path):
            continue
        most = LARGEST.get(named(name), MAX_WHOLE if whole(value) else MAX_NUMBER)
        # a count of epochs or rounds at its end is a long training, and no wrong one
        ends = (0.0, -1.0, MIN_NUMBER, -float(most), float(most))
        if whole(value):
            ends = (0, -1, int(most)) if prefix == "pipeline." else (0, -1)
        found += [(name, end) for end in ends if accepts(path, end)]
    return random.Random(0).sample(found, len(found) if EVERYTHING else times)


def accepts(path: tuple, value: float) -> bool:
    tree = copy.deepcopy(defaults())
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with contextlib.suppress(ValueError):
        Settings.model_validate(tree)
        return True
    return False


def require_sound(got: dict, name: str, value: float) -> None:
    told = f"{name}={value!r}: {got['code']} {got['err'][:300]}"
    assert got["code"] in (0, 2, 3, 4), told  # what cannot be is said with its code
    assert not re.search("Warning|Traceback|unexpected", got["err"]), told
    assert not NO_NUMBER.search(got["out"]), f"{told} {got['out'][:300]}"


def test_what_the_pipeline_accepts_gives_slates(forked, project, tmp_path):
    folder = copy_project(project, tmp_path / "project")
    for name, value in extremes("pipeline.", 12):
        got = forked(f"recommend --user 1 --format json -q --set {name}={value!r}", folder, limit=SECONDS)
        require_sound(got, name, value)


def test_what_rankers_accept_trains_and_gives_slates(forked, project, tmp_path):
    for name, value in extremes("ranking.", 2):
        folder = copy_project(project, tmp_path / "project")
        got = forked(f"train --no-refit -q --set {name}={value!r}", folder, limit=4 * SECONDS)
        require_sound(got, name, value)
        if got["code"] == 0:
            require_sound(forked("recommend --user 1 --format json -q", folder, limit=SECONDS), name, value)
