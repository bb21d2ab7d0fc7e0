"""What was served and what came of it; and the commands that read a log."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pytest
from law_world import END, HOUR, RULES, make_world, some_events

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.validate import validate_dataset
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, Served
from recsys_cli.serving.export import export_events
from recsys_cli.serving.online_state import OnlineState
from recsys_cli.serving.served import served_table

ACTIONS = tuple(RULES.actions)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("served") / "data")


def test_outcomes_belong_to_the_very_answer_that_showed_the_item(tmp_path):
    with EventLog.open(tmp_path, RULES, now=lambda: END) as log:
        first = Served(["1001", "1002"], "run-1", "treatment", [0.25, 0.5], ["als", "fresh"])
        second = Served(["1002", "1003"], "run-1", "control", [0.125, 0.5], ["als", "als"])
        log.append([
            Event("served", "100", request_id="a", served=first), Event("served", "100", request_id="b", served=second),
            Event("served", "100", request_id="a", served=first),
            Event("like", "100", "1002", request_id="b"), Event("impression", "100", "1002", request_id="b"),
            Event("impression", "100", "1001", request_id="a"), Event("dwell", "100", "1001", request_id="a",
                                                                      dwell_seconds=4),
            Event("like", "100", "1003"),
        ])
    table = served_table(tmp_path, ACTIONS)
    assert table.select("request_id", "arm", "position", "item_id", "propensity", "source", "shown", "like").rows() == [
        ("a", "treatment", 0, "1001", 0.25, "als", True, False),
        ("a", "treatment", 1, "1002", 0.5, "fresh", False, False),
        ("b", "control", 0, "1002", 0.125, "als", True, True),
        ("b", "control", 1, "1003", 0.5, "als", False, False),  # that like names no request
    ]
    assert table["dwell_seconds"].to_list() == [4.0, None, None, None]


def test_impressions_take_place_propensity_and_source_from_the_answer(world, tmp_path):
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END) as log:
        served = Served(["1001", "1002"], "run", "", [0.25, 0.5], ["als", "fresh+als"], surface="search")
        log.append([
            Event("served", "100", request_id="a", served=served),
            Event("impression", "100", "1002", request_id="a"), Event("click", "100", "1002", request_id="a"),
        ])
    export_events(tmp_path / "log", world.dataset, tmp_path / "out")
    row = Dataset.open(tmp_path / "out").table("impressions").tail(1).row(0, named=True)
    assert (row["user_id"], row["item_id"], row["position"], row["propensity"]) == (100, 1002, 1, 0.5)
    assert (row["source"], row["surface"], row["click"], row["like"]) == ("fresh+als", "search", True, False)


def recsys(folder, *arguments) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    command = [sys.executable, "-m", "recsys_cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_log_becomes_a_dataset_by_a_command(world, tmp_path):
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END + 7 * HOUR) as log:
        log.append([*some_events(np.random.default_rng(0), 200), Event("like", "100", "9999")])
    data = str(world.dataset.path)
    done = recsys(tmp_path, "import-data", "--events", "log", "--data-dir", data, "--to", "out")
    assert done.returncode == 0, done.stderr
    assert "201 events made" in done.stdout and "about items that nobody described are left out" in done.stdout
    merged = Dataset.open(tmp_path / "out")
    assert merged.manifest.tables["impressions"].rows > world.dataset.manifest.tables["impressions"].rows
    assert not [c for c in validate_dataset(merged.path) if not c.ok]
    for arguments, code, told in (
        (("import-data", "--events", "log", "--data-dir", "out"), 2, "holds events already"),
        (("train", "--events", "nowhere", "--data-dir", data), 4, "no log of events in nowhere"),
    ):
        done = recsys(tmp_path, *arguments)
        assert (done.returncode, told in done.stderr) == (code, True), done.stderr


def test_events_are_taken_in_while_engines_are_made(world, tmp_path):
    """Threads append, catch up, ask and save at once; nothing is lost and the outcome is that of a quiet life."""
    events = some_events(np.random.default_rng(3), 400)
    failures: list[BaseException] = []
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END + 7 * HOUR - 1) as log:
        online = OnlineState.open(tmp_path / "state", world.engine, log, dataset=world.dataset)
        stop = threading.Event()

        def ask(work):
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                failures.append(error)

        works = (
            lambda: online.live().recommend("100", 3), lambda: online.refresh(END + 8 * HOUR), online.save,
            lambda: online.memory("101"), online.catch_up,
        )
        threads = [threading.Thread(target=ask, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for start in range(0, 400, 10):
            log.append(events[start : start + 10])
            online.catch_up()
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures, failures
        quiet = OnlineState.open(tmp_path / "other", world.engine, log, dataset=world.dataset)
        ours, theirs = online.live(END + 9 * HOUR).state, quiet.live(END + 9 * HOUR).state
    assert np.array_equal(ours.seen.values, theirs.seen.values)
    assert np.array_equal(ours.impressions, theirs.impressions)
    np.testing.assert_allclose(ours.trending, theirs.trending, rtol=1e-6)


def test_the_table_of_a_log_without_answers_is_empty(tmp_path):
    with EventLog.open(tmp_path, RULES, now=lambda: END) as log:
        log.append([Event("like", "100", "1000")])
    assert isinstance(served_table(tmp_path, ACTIONS), pl.DataFrame) and served_table(tmp_path, ACTIONS).height == 0
