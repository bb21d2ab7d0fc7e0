"""Studies: trials that share a training, a winner that must be confirmed, a killed study that loses nothing."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.errors import ArtifactError, UsageError
from recsys_cli.progress import Progress
from recsys_cli.settings import Settings
from recsys_cli.tuning.config import SpaceConfig
from recsys_cli.tuning.result import compared, pareto
from recsys_cli.tuning.run import tune_space
from recsys_cli.tuning.tables import trial_rows
from recsys_cli.tuning.trial import Outcome, sides

SPACE = """name: tiny
settings:
  pipeline.slate_size: 12
only_in_trials:
  ranking.heavy.min_positives: 1000000000
  ranking.relevance.enabled: false
  ranking.choose: fusion
  tuning.enabled: false
search:
  pipeline.sourcing.candidates: {low: 20, high: 100}
  pipeline.diversity.enabled: {choices: [auto, true, false]}
"""
TWO = SPACE + "objectives: [{figure: ndcg@5}, {figure: coverage@5}]\n"


def settings_of(tiny_dataset, folder) -> Settings:
    cheap = ("popularity", "trending", "item_neighbours", "ease")
    given = Settings().model_dump(mode="json")
    for name, source in given["retrieval"].items():
        source["enabled"] = name in cheap
    given["paths"] |= {"data": str(tiny_dataset), "artifacts": str(folder)}
    given["windows"] |= {"split": "last", "validation_share": 0.2}
    return Settings.model_validate(given | {"threads": 1})


def test_a_study_tries_keeps_tells_and_goes_on(tiny_dataset, tmp_path):
    settings, file = settings_of(tiny_dataset, tmp_path / "artifacts"), tmp_path / "space.yaml"
    file.write_text(TWO)
    document, paths = tune_space(file, settings, trials=4, progress=Progress())
    assert [row["state"] for row in document["trials"]] == ["complete"] * 4
    # one training for all: they differ in the pipeline alone
    assert len(list((tmp_path / "artifacts/studies/tiny/work/runs").iterdir())) == 1
    rows = [document["default"], *document["trials"]]
    beaten = {
        a["number"] for a in rows for b in rows
        if all(b["figures"][f] >= a["figures"][f] for f in a["figures"]) and a["figures"] != b["figures"]
    }
    assert set(document["pareto"]) == {row["number"] for row in rows} - beaten
    assert {f"{n:05d}.yaml" for n in document["pareto"] if n >= 0} == {
        p.name for p in (paths["winner"].parent / "pareto").glob("*")
    }
    written = yaml.safe_load(paths["winner"].read_text())
    assert "ranking" not in written and written["windows"]["split"] == "last"
    assert written["pipeline"]["slate_size"] == 12
    page = paths["report"].read_text()
    assert "The Pareto front" in page and document["verdict"]["why"].split("'")[0] in page
    assert [row["trial"] for row in trial_rows(document)] == ["default", "0", "1", "2", "3"]

    with pytest.raises(UsageError, match="already"):
        tune_space(file, settings, trials=5, progress=Progress())
    again, _ = tune_space(file, settings, trials=6, resume=True, progress=Progress())
    assert again["trials"][:4] == document["trials"] and len(again["trials"]) == 6
    file.write_text(TWO.replace("high: 100", "high: 90"))
    with pytest.raises(ArtifactError, match="another search space"):
        tune_space(file, settings, resume=True, progress=Progress())


def test_without_optuna_the_extra_is_named(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError) as refused:
        tune_space(tmp_path / "space.yaml", Settings(), progress=Progress())
    assert "recsys-cli[tune]" in refused.value.hint


def outcome(values, users=None, confirming=None) -> Outcome:
    values = np.array(values, float)
    users = np.arange(len(values), dtype=np.int32) if users is None else np.array(users, np.int32)
    confirming = np.arange(len(values)) % 2 == 1 if confirming is None else np.array(confirming)
    return Outcome(0, users, confirming, {"ndcg@10": values}, {}, 1.0)


def test_two_trials_are_compared_on_the_people_whom_both_measured_and_of_one_side():
    default = outcome([0.1] * 40)
    better = outcome(np.where(np.arange(40) % 2, 0.4, 0.2))
    searching = compared(default, better, "ndcg@10", "searching", 0)
    assert searching["value"] == pytest.approx(0.1) and searching["users"] == 20 and searching["sure"] == 1
    assert compared(default, better, "ndcg@10", "confirming", 0)["value"] == pytest.approx(0.3)
    some = outcome([0.5, 0.3], users=[39, 3], confirming=[True, True])
    some = Outcome(0, np.array([3, 39], np.int32), some.confirming, {"ndcg@10": np.array([0.3, np.nan])}, {}, 1.0)
    found = compared(default, some, "ndcg@10", None, 0)
    assert found["users"] == 1 and found["value"] == pytest.approx(0.2)


def test_sure_is_near_a_half_where_nothing_differs_and_says_so_of_noise():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    found = compared(outcome(np.zeros(400)), outcome(noise - noise.mean()), "ndcg@10", None, 0)
    assert 0.4 < found["sure"] < 0.6 and found["low"] < 0 < found["high"]


def test_the_front_holds_what_no_other_row_beats():
    config = SpaceConfig.model_validate({
        "name": "a", "search": {"seed.x": {"low": 0, "high": 1}},
        "objectives": [{"figure": "ndcg@10"}, {"figure": "request_ms"}],
    })  # fmt: skip
    points = [(0.5, 9.0), (0.4, 3.0), (0.4, 4.0), (0.3, 5.0), (0.1, 1.0), (0.5, 9.0)]
    rows = [{"number": n, "figures": {"ndcg@10": a, "request_ms": b}} for n, (a, b) in enumerate(points)]
    assert [row["number"] for row in pareto(rows, config)] == [0, 5, 1, 4]


def test_people_apart_are_the_same_in_every_trial_and_as_many_as_asked_for():
    first = sides(10_000, 0.3, 7)
    assert (first == sides(10_000, 0.3, 7)).all() and 0.28 < first.mean() < 0.32
    assert (sides(10_000, 0.3, 8) != first).any()


def test_an_outcome_is_read_as_it_was_written_and_a_torn_file_is_refused(tmp_path):
    before = outcome([0.25, np.nan, 1.0])
    before.save(tmp_path / "a.json")
    after = Outcome.load(tmp_path / "a.json")
    assert np.array_equal(after.by_user["ndcg@10"], before.by_user["ndcg@10"], equal_nan=True)
    assert (after.users == before.users).all() and (after.confirming == before.confirming).all()
    (tmp_path / "a.json").write_bytes((tmp_path / "a.json").read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="no outcome"):
        Outcome.load(tmp_path / "a.json")


def test_two_processes_may_delete_runs_at_once(tmp_path):
    """Each sweeps what it finds deleted; one of them then finds it gone."""
    from multiprocessing import get_context

    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "manifest.json").write_text("{}")
    with get_context("fork").Pool(2) as pool:
        pool.starmap(_delete, [(tmp_path, "one"), (tmp_path, "two")])
    assert not list((tmp_path / "runs").iterdir())


def _delete(folder, run):
    RunStore(folder).delete(run)


def command(folder, *more):
    given = ["tune", "space.yaml", "-c", "settings.yaml", "--quiet", "--format", "json", "-o", "out.json", *more]
    return subprocess.Popen([sys.executable, "-m", "recsys_cli", *given], cwd=folder, stderr=subprocess.PIPE, text=True)


def trials_of(folder) -> list[tuple]:
    database = next((folder / "artifacts/studies").glob("*/study.db"))
    with sqlite3.connect(database) as open_database:
        return open_database.execute("SELECT number, state FROM trials ORDER BY number").fetchall()


@pytest.mark.slow
def test_a_killed_study_goes_on_as_if_it_had_not_been_and_one_of_processes_loses_no_trial(tiny_dataset, tmp_path):
    text = SPACE.replace("name: tiny", "name: killed") + (
        "  retrieval.ease.l2: {type: float, low: 1, high: 500, log: true}\nobjectives: [{figure: ndcg@5}]\n"
    )
    folders = {name: tmp_path / name for name in ("whole", "killed", "jobs")}
    for folder in folders.values():
        folder.mkdir()
        settings = settings_of(tiny_dataset, folder / "artifacts").model_dump(mode="json")
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        (folder / "space.yaml").write_text(text)
    assert command(folders["whole"], "--trials", "4").wait(200) == 0
    killed = command(folders["killed"], "--trials", "4")
    until = time.monotonic() + 120
    while time.monotonic() < until:  # in the middle of the second trial
        if list((folders["killed"] / "artifacts").glob("studies/*/outcomes/0000[01].json")):
            break
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert len(trials_of(folders["killed"])) < 5
    assert command(folders["killed"], "--trials", "4", "--resume").wait(200) == 0
    one, other = (json.loads((folders[n] / "out.json").read_text()) for n in ("whole", "killed"))
    wanted = [(row["number"], row["settings"], row["figures"]) for row in one["trials"]]
    assert [(row["number"], row["settings"], row["figures"]) for row in other["trials"]] == wanted

    process = command(folders["jobs"], "--trials", "4", "--jobs", "2")
    time.sleep(12)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = command(folders["jobs"], "--trials", "4", "--jobs", "2", "--resume")
    assert done.wait(200) == 0, done.stderr.read()
    listed = [row for row in trials_of(folders["jobs"]) if row[1] != "COMPLETE"]
    assert not listed and len(json.loads((folders["jobs"] / "out.json").read_text())["trials"]) == 4


@pytest.mark.slow
def test_a_trial_that_looks_poor_on_some_people_is_not_run_on_all(tiny_dataset, tmp_path):
    text = SPACE + "pruning: {shares: [0.6], keep: 0.3, startup: 1}\nobjectives: [{figure: ndcg@5}]\nsampler: random\n"
    (tmp_path / "space.yaml").write_text(text)
    settings = settings_of(tiny_dataset, tmp_path / "artifacts")
    document, _ = tune_space(tmp_path / "space.yaml", settings, trials=8, progress=Progress())
    states = document["counts"]
    assert states["pruned"] >= 1 and states["complete"] >= 1 and states["failed"] == 0
    firsts = {state: [r["first"] for r in document["trials"] if r["state"] == state] for state in states}
    assert len(firsts["pruned"]) == states["pruned"] and min(firsts["pruned"]) < max(firsts["complete"])
