"""Memory of fits, measured in processes of their own: what sources say of it, and the bound on fits side by side."""

import json
import subprocess
import sys

import pytest

KNOWN = """
import json, re, sys
import numpy as np
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.testing.planted_world import DAY, NOW, make_catalogue, make_log, make_window

kind, settings = sys.argv[1], json.loads(sys.argv[2])

def peak():  # ru_maxrss would be that of the process that began this one, where that was larger
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

def window(users, items, rows):
    rng = np.random.default_rng(0)
    who, what = rng.integers(0, users, rows).tolist(), rng.integers(0, items, rows).tolist()
    log = make_log(zip(who, what, range(NOW - DAY, NOW - DAY + rows)))
    return make_window(make_catalogue(users, np.full(items, -1)), log)

def fit(window):
    source = SOURCES[kind](SOURCES[kind].config_type(**settings))
    before = peak()
    source.fit(window, Progress())
    return source.memory(window), peak() - before

fit(window(50, 60, 500))  # whatever is loaded on first use
print(json.dumps(fit(window(6_000, 4_000, 120_000))))
"""


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("ease", {"neighbours": None}), ("als", {"dim": 64, "epochs": 2}), ("two_tower", {"dim": 64, "epochs": 1})],
)
def test_a_source_takes_about_the_memory_that_it_says(kind, settings):
    command = [sys.executable, "-c", KNOWN, kind, json.dumps(settings)]
    told = subprocess.run(command, capture_output=True, text=True)
    assert not told.returncode, told.stderr
    said, took = json.loads(told.stdout)
    assert took <= 1.5 * said + 96 * 2**20, (said, took)
    assert said <= 10 * took + 96 * 2**20, (said, took)


BOUND = """
import re, sys, time
from types import SimpleNamespace
import numpy as np
from recsys_cli.cluster import Here
from recsys_cli.progress import Progress
from recsys_cli.training.fitting import side_by_side
from recsys_cli.training.memory import GIB, MemoryBudget, used_bytes

class Large:
    learns = True

    def memory(self, window):
        return 200 * 2**20

held = used_bytes()
budget = MemoryBudget((held + float(sys.argv[1]) * 200 * 2**20) / GIB)
ready = {f"source {n}": Large() for n in range(4)}

def fit(name, progress):
    cells = np.ones(25 * 2**20)
    time.sleep(1)
    return cells[-1]

job = SimpleNamespace(threads=4, progress=Progress(), memory=budget, beside=None, tasks=Here())
assert side_by_side(job, ready, None, fit) == dict.fromkeys(ready, 1.0)
print((1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) - held) / 200 / 2**20)
"""


@pytest.mark.parametrize(("room", "least", "most"), [(1.1, 0.9, 1.5), (2.1, 1.5, 2.5), (9, 2.5, 5)])
def test_fits_side_by_side_stay_within_the_budget(room, least, most):
    told = subprocess.run([sys.executable, "-c", BOUND, str(room)], capture_output=True, text=True)
    assert not told.returncode, told.stderr
    assert least < float(told.stdout) < most
