"""Two who do the same at the same moment: names are claimed in one step, and a lock is held by one."""

import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.benchmark.run import keep_result
from recsys_cli.data.windows.windows import Windows
from recsys_cli.errors import RecsysError
from recsys_cli.files import write_new_folder
from recsys_cli.training.train import _alone

AT_ONCE = 12
MANIFEST = {
    "settings": {}, "seed": 1, "final": False, "dataset": {"path": "d", "name": "x", "digest": "00"},
    "windows": Windows(start=0, history_end=1, validation_start=2, test_start=3, end=4), "models_end": 3,
    "packages": {}, "durations": {}, "metrics": {},
}


def together(do):
    """What `do(n)` gives where so many call it at the same moment."""
    gate = threading.Barrier(AT_ONCE)

    def call(n):
        gate.wait(10)
        return do(n)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(call, range(AT_ONCE)))


def test_a_name_is_taken_once_and_the_next_suffix_follows(tmp_path):
    found = together(lambda n: write_new_folder(tmp_path / "runs", "20260101-000000", {"n": b"%d" % n}))
    assert {f.name for f in found} == {"20260101-000000", *(f"20260101-000000-{n}" for n in range(2, AT_ONCE + 1))}
    assert [(folder / "n").read_text() for folder in found] == [str(n) for n in range(AT_ONCE)]
    assert len(list((tmp_path / "runs").iterdir())) == AT_ONCE


def test_runs_published_at_once_are_all_there_and_whole(tmp_path):
    store = RunStore(tmp_path / "artifacts")
    for n in range(AT_ONCE):
        (tmp_path / "artifacts" / "work" / str(n) / "bundle").mkdir(parents=True)
        (tmp_path / "artifacts" / "work" / str(n) / "bundle" / "part.bin").write_text(str(n))
    runs = together(lambda n: store.publish(tmp_path / "artifacts" / "work" / str(n), MANIFEST))
    assert len({run.id for run in runs}) == AT_ONCE and store.ids() == sorted(run.id for run in runs)
    for n, run in enumerate(runs):
        assert (store.open(run.id).bundle / "part.bin").read_text() == str(n)
    assert store.current() in store.ids()


def test_a_publishing_that_fails_takes_no_name(tmp_path):
    store = RunStore(tmp_path / "artifacts")
    (tmp_path / "work").mkdir()
    with pytest.raises(ValueError):
        store.publish(tmp_path / "work", MANIFEST | {"settings": "no mapping"})
    assert not store.ids() and not list(tmp_path.glob("artifacts/runs/*")) and (tmp_path / "work").is_dir()


def test_results_of_benchmarks_kept_at_once_are_all_there(tmp_path):
    document = {"benchmark": "b", "created_at": "2026-01-01T00:00:00+00:00"}
    folders = together(lambda n: keep_result(document | {"n": n}, tmp_path))
    assert len(set(folders)) == AT_ONCE
    assert all(f'"n": {n}' in (folder / "result.json").read_text() for n, folder in enumerate(folders))


def test_a_training_keeps_others_of_its_kind_out_until_it_ends(tmp_path):
    work = tmp_path / "work" / "abc"
    with _alone(work):
        with pytest.raises(RecsysError, match="another training"), _alone(work):
            pass
        with _alone(tmp_path / "work" / "other"):
            pass
    with _alone(work):
        pass


def test_who_opened_the_lock_before_the_holder_left_holds_the_same_lock_as_who_comes_later(tmp_path):
    work = tmp_path / "work" / "abc"
    with _alone(work):
        waiting = open(work.with_suffix(".lock"), "w")  # noqa: SIM115
    with waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(RecsysError, match="another training"), _alone(work):
            pass
