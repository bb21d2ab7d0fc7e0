"""Retraining: what is refused and promoted, what a killed training leaves, and who may retrain at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_datasets import as_of_share, half_the_rows, rewritten, shuffled_labels, without_column

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.config import merge, validate
from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.live.decisions import Decisions, alone
from recsys_cli.live.gates import lost_columns
from recsys_cli.live.retrain import retrain, roll_back
from recsys_cli.settings import Settings
from recsys_cli.testing.small_world import small_world

TREE = """
threads: 1
world: {users: 150, items: 1000, days: 10}
retrieval: {als: {dim: 16, epochs: 3}}
ranking: {choose: heavy, heavy: {kind: shared_bottom, epochs: 3, hidden: [32]}}
tuning: {budget_seconds: 2}
evaluation: {resamples: 100}
"""


def settings_of(data: Path, artifacts: Path) -> Settings:
    import yaml

    tree = merge(Settings().model_dump(mode="json"), yaml.safe_load(TREE))
    return validate(Settings, tree | {"paths": {"data": str(data), "artifacts": str(artifacts)}})


def test_decisions_survive_a_line_that_was_cut_short(tmp_path):
    log = Decisions(tmp_path)
    assert log.read() == []
    log.append("promoted", run="a")
    with open(log.path, "ab") as handle:
        handle.write(b'{"outcome": "refu')
    log.append("refused", run="b", gates=[{"gate": "quality", "measured": np.float64(0.5)}])
    assert [(r["outcome"], r["run"]) for r in log.read()] == [("promoted", "a"), ("refused", "b")]
    assert log.read()[1]["gates"][0]["measured"] == 0.5


def test_one_process_retrains_at_a_time_and_its_death_ends_the_lock(tmp_path):
    code = (
        "import sys, time; from recsys_cli.live.decisions import alone\n"
        "with alone(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RecsysError, match=rf"is running \(process {other.pid}\)"), alone(tmp_path):
            pass
        with pytest.raises(RecsysError, match="is running"):
            roll_back(tmp_path)
    finally:
        other.kill()
        other.wait()
    with alone(tmp_path, wait=True):
        assert (tmp_path / "retrain" / "lock").read_text() == str(os.getpid())


@pytest.mark.parametrize(("ignored", "ended_by"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_what_hangs_is_ended(ignored, ended_by):
    code = (
        "import signal, sys, time; from recsys_cli.live.decisions import ends_after\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == 'True' else signal.SIG_DFL)\n"
        "with ends_after(60): pass\n"
        "with ends_after(0.1, grace=0.1): time.sleep(60)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(ignored)], timeout=50).returncode == -ended_by


def test_columns_that_are_gone_or_emptied_are_named():
    catalogue = small_world(3).catalogue
    assert lost_columns(catalogue, catalogue) == []
    no_lists = replace(catalogue.item_columns, lists={}, times={"released": np.zeros(9, np.int64)})
    assert lost_columns(catalogue, replace(catalogue, item_columns=no_lists)) == ["items.released", "items.tags"]
    emptied = replace(
        catalogue, user_numbers={k: v for k, v in catalogue.user_numbers.items() if k != "age"},
        item_codes={k: np.full_like(v, -1) if k == "language" else v for k, v in catalogue.item_codes.items()},
    )
    assert lost_columns(catalogue, emptied) == ["items.language", "users.age"]


def test_nothing_can_be_rolled_back_before_a_promotion(tmp_path):
    with pytest.raises(ArtifactError, match="nothing was not promoted"):
        roll_back(tmp_path)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A world, its first 80 % as `before`, and a run that was trained on those."""
    from recsys_cli.world.generate import generate

    folder = tmp_path_factory.mktemp("retrain")
    settings = settings_of(folder / "before", folder / "artifacts")
    generate(settings.world, 1, folder / "whole", threads=1)
    rewritten(folder / "whole", folder / "before", as_of_share(0.8))
    done = retrain(settings)
    assert (done.outcome, done.used_before) == ("promoted", None)
    assert retrain(settings).outcome == "unchanged"
    (folder / "tiny.yaml").write_text(TREE)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "gate"),
    [(half_the_rows, "data: rows"), (without_column("items", "topics"), "data: columns: gone or emptied: items.topi")],
    ids=["half the rows", "a column gone"],
)
def test_harmed_data_is_refused_before_training(place, tmp_path, change, gate):
    runs = RunStore(place / "artifacts").ids()
    done = retrain(settings_of(rewritten(place / "whole", tmp_path / "data", change), place / "artifacts"))
    assert (done.outcome, done.run) == ("refused", None) and done.reason.startswith(gate)
    assert RunStore(place / "artifacts").ids() == runs


@pytest.mark.slow
def test_a_run_of_shuffled_labels_is_refused_and_the_one_in_use_stays(place, tmp_path):
    store = RunStore(place / "artifacts")
    used = store.current()
    data = rewritten(place / "whole", tmp_path / "data", shuffled_labels(0))
    done = retrain(settings_of(data, place / "artifacts"))
    assert done.outcome == "refused" and done.reason.startswith("predictions: ROC-AUC")
    assert store.current() == used != done.run in store.ids()


@pytest.mark.slow
def test_a_killed_training_leaves_the_run_in_use_and_the_next_one_promotes_and_rolls_back(place):
    store = RunStore(place / "artifacts")
    used = store.current()
    command = [sys.executable, "-m", "recsys_cli", "retrain", "-c", "tiny.yaml", "--data-dir", "whole"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    killed = subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.DEVNULL)
    work = place / "artifacts" / "work"
    while killed.poll() is None and not list(work.glob("*/history/*.pt")):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert store.current() == used
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "ended without a word" in done.stderr and "every gate holds" in done.stdout
    new = store.current()
    assert new != used
    outcomes = [row["outcome"] for row in Decisions(place / "artifacts").read()]
    assert outcomes[-4:] == ["started", "died", "started", "promoted"]
    assert roll_back(place / "artifacts") == (new, used) and store.current() == used
    with pytest.raises(ArtifactError, match="was not promoted over another run"):
        roll_back(place / "artifacts")


@pytest.mark.slow
def test_a_full_disk_leaves_the_run_in_use_and_says_so(place, monkeypatch):
    import recsys_cli.training as training

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "train", full)
    store = RunStore(place / "artifacts")
    used = store.current()
    with pytest.raises(OSError, match="No space"):
        retrain(settings_of(place / "whole", place / "artifacts"), force=True)
    last = Decisions(place / "artifacts").read()[-1]
    assert store.current() == used and last["outcome"] == "failed" and "No space" in last["reason"]


@pytest.mark.slow
def test_events_are_learned_and_what_was_foretold_of_them_is_held_against_them(place):
    """People who click on everything click more often than the run in use foretells."""
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.live.monitor import monitor
    from recsys_cli.serving.event_log import EventLog
    from recsys_cli.serving.events import Event, EventRules

    dataset = Dataset.open(place / "before")
    rng, end, day = np.random.default_rng(0), dataset.manifest.time_span[1], 86_400_000_000
    first = (end // day + 1) * day
    users, items = dataset.users["user_id"].to_list(), dataset.items["item_id"].to_list()
    events = []
    for n in range(300):
        moment, user, item = first + n * 1_000_000, str(rng.choice(users)), str(rng.choice(items))
        more = {"timestamp": moment, "request_id": f"r{n}"}
        events += [Event("impression", user, item, position=0, **more), Event("click", user, item, **more)]
    rules = EventRules(actions=tuple(dataset.manifest.actions), late_days=10_000)
    with EventLog.open(place / "log", rules, now=lambda: first + day) as log:
        assert log.append(events).accepted == 600
    report, _ = monitor(settings_of(place / "before", place / "artifacts"), place / "log", 1, predictions=200)
    figures = report["daily"][0]
    assert figures["click_through_rate"] == 1 and figures["calibration.click"] > 2
    assert figures["psi.p_click"] > 0 and set(figures) >= {"calibration.like", "js.p_like"}
