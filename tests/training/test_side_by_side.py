"""What is done on several threads: the same as on one, within the memory that there is, and over when it must be."""

import os
import threading
import time
from pathlib import Path

import pytest

from recsys_cli.errors import ConfigError
from recsys_cli.parallel import SideBySide, Stopped
from recsys_cli.progress import Progress
from recsys_cli.training.memory import GIB, MemoryBudget, used_bytes

TINY = {
    "world": {"users": 120, "items": 900, "days": 10},
    "ranking": {"choose": "heavy", "heavy": {"kind": "shared_bottom", "epochs": 2, "min_steps": 0, "hidden": [32]}},
    "tuning": {"enabled": False},
}
SMALL = {
    "two_tower": {"epochs": 2, "dim": 16}, "als": {"dim": 16, "epochs": 3},
    "lightgcn": {"kind": "lightgcn", "dim": 16, "epochs": 2}, "sasrec": {"kind": "sasrec", "dim": 16, "epochs": 2},
}
"""Two networks that would take random numbers from each other, and from the heavy ranker's dropout."""


def _settings(folder: Path, **more):
    from recsys_cli.retrieval.registry import default_retrieval
    from recsys_cli.settings import Settings

    sources = {name: config.model_dump(mode="json") for name, config in default_retrieval().items()}
    sources |= {name: sources.get(name, {}) | config for name, config in SMALL.items()}
    paths = {"data": str(folder / "data"), "artifacts": str(folder / "artifacts")}
    return Settings.model_validate(TINY | {"retrieval": sources, "paths": paths} | more)


def _files(run) -> dict[str, bytes]:
    """What a run holds, but for what tells seconds: the manifest, and a checkpoint whose weights the bundle has."""
    found = {str(p.relative_to(run.folder)): p.read_bytes() for p in sorted(run.folder.rglob("*")) if p.is_file()}
    return {name: content for name, content in found.items() if name not in ("manifest.json", "checkpoints/heavy.pt")}


@pytest.mark.slow
def test_a_training_on_two_threads_is_that_on_one_to_the_byte(tmp_path, monkeypatch):
    from recsys_cli.training import train
    from recsys_cli.world.generate import generate

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    settings = _settings(tmp_path)
    generate(settings.world, settings.seed, tmp_path / "data", threads=1)
    runs = {}
    for threads in (1, 2):
        place = tmp_path / str(threads)
        paths = {"data": str(tmp_path / "data"), "artifacts": str(place)}
        runs[threads] = train(_settings(tmp_path, threads=threads, paths=paths))
    alone, together = (_files(run) for run in runs.values())
    assert {n for n in alone if n.startswith("bundle/")} and set(alone) == set(together)
    assert [name for name in alone if alone[name] != together[name]] == []
    metrics = [{k: v for k, v in run.manifest.metrics.items() if k != "heavy"} for run in runs.values()]
    assert metrics[0]["sources"] == metrics[1]["sources"] and metrics[0]["order"] == metrics[1]["order"]


def test_work_runs_beside_and_its_errors_are_told_where_it_is_asked_for():
    def wrong():
        raise ValueError("told")

    with SideBySide(2, Progress()) as beside:
        here = threading.get_ident()
        found, failed = beside.begin(threading.get_ident), beside.begin(wrong)
        assert found.result() == found.result() and failed is not None
        with pytest.raises(ValueError, match="told"):
            failed.result()
        gate = threading.Barrier(2)  # two wait for each other: on one thread neither would come to an end
        assert {w.result() for w in [beside.begin(gate.wait, 20) for _ in range(2)]} == {0, 1}
    with SideBySide(0, Progress()) as beside:
        assert beside.begin(threading.get_ident).result() == here


@pytest.mark.parametrize("within", [False, True], ids=["at once", "within other work"])
def test_an_error_stops_what_runs_beside_at_its_next_step_forward(within):
    went, ended = threading.Event(), []

    def long(progress):
        try:
            with progress.step("long") as bar:
                for _ in range(10_000):
                    went.set()
                    bar.advance()
                    time.sleep(0.001)
        except Stopped:
            ended.append(True)

    with pytest.raises(KeyboardInterrupt), SideBySide(1, Progress()) as beside:
        beside.begin(long, SideBySide(0, beside.progress).progress if within else beside.progress)
        begun = beside.begin(ended.append, "never begun")
        went.wait()
        raise KeyboardInterrupt
    assert ended == [True] and begun is not None


def test_fits_wait_until_their_memory_is_free_and_what_is_too_large_runs_alone():
    budget = MemoryBudget(0)
    budget.room = 100
    most, held, lock = [], [], threading.Lock()

    def fit(need):
        with budget.lent(need):
            with lock:
                held.append(need)
                most.append(list(held))
            time.sleep(0.02)
            with lock:
                held.remove(need)

    with SideBySide(4, Progress()) as beside:
        for work in [beside.begin(fit, need) for need in (60, 50, 40, 300, 10)]:
            work.result()
    assert max(sum(now) for now in most if 300 not in now) <= 100
    assert [300] in most and not any(300 in now and len(now) > 1 for now in most)
    assert any(len(now) > 1 for now in most)


def test_a_budget_that_is_too_small_is_refused_and_one_that_nobody_set_is_said():
    held = used_bytes() / GIB
    with pytest.raises(ConfigError, match=r"source ease needs about 3\.00 GiB beside") as error:
        MemoryBudget(held + 2).check({"source als": GIB, "source ease": 3 * GIB})
    enough = float(str(error.value.hint).split()[3])
    assert held + 3 <= enough < held + 3.2 and MemoryBudget(enough).check({"source ease": 3 * GIB}) is None
    assert MemoryBudget(held + 4).check({"source ease": 3 * GIB}) is None and MemoryBudget(1).check({}) is None
    free = MemoryBudget(0)
    assert "may run out of memory" in free.check({"source ease": free.room + GIB})
