"""`recsys benchmark` on suites, as a process: the whole funnel and single sources on tiny data, with a stub peer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys_cli.benchmark.suite import run_suite
from recsys_cli.benchmark.suite_config import SuiteConfig
from recsys_cli.config import read_yaml, validate
from recsys_cli.errors import ConfigError, RecsysError

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
name: tiny
title: A tiny suite
tasks:
  whole:
    kind: funnel
    title: Walks, the whole funnel
    data: {form: sequences, file: walks.txt}
    split: {kind: last_share, share: 0.2}
    k: 5
    goal: {funnel: 0.01, funnel over best part: 99}
    published: [{method: Theirs, figures: {ndcg@5: 0.123}, source: "Somebody, 2020"}]
  alone:
    kind: sources
    title: Walks, single sources
    data: {form: sequences, file: walks.txt}
    split: {kind: last_share, share: 0.2}
    k: 5
  rated:
    kind: windows
    title: Ratings in windows
    mapping: rated.yaml
    folder: rated
    settings: {ranking: {heavy: {epochs: 1}}}
peers:
  implicit cosine: {kind: implicit_neighbours, neighbours: 20}
  trees: {kind: lambdarank, rounds: 10, least_rows: 5}
  stub: {kind: own_environment, script: stub.py}
  stumbles: {kind: own_environment, script: stumbles.py}
models:
  popularity: {kind: popularity}
  markov: {kind: markov}
"""
MAPPING = """
name: rated
impressions:
  files: rated.csv
  columns: {user_id: u, item_id: i, timestamp: {column: t, unit: s}}
  actions: {like: {column: r, at_least: 4}}
"""
STUB = """
import csv, json, sys
rows, users, length, out = sys.argv[1:]
items = sorted({row["item"] for row in csv.DictReader(open(rows))})
lists = {user: items[: int(length)] for user in open(users).read().split()}
json.dump({"lists": lists, "fit_seconds": 0.5, "rank_seconds": 0.5, "peak_memory_mib": 7}, open(out, "w"))
"""


def recsys(folder, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "recsys_cli", "benchmark", *arguments], cwd=folder, capture_output=True, text=True,
        timeout=300, env={**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """People who walk a ring of 40 places, with detours; and ratings in time."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "data/rated").mkdir(parents=True)
    rng, lines = np.random.default_rng(1), []
    for _ in range(80):
        start, length = int(rng.integers(40)), int(rng.integers(12, 20))
        walk = [(start + step + int(rng.random() < 0.1)) % 40 for step in range(length)]
        lines.append(" ".join(str(100 + place) for place in dict.fromkeys(walk)))
    (folder / "data/walks.txt").write_text("\n".join(lines) + "\n")
    rated = ["u,i,r,t"]
    for moment in range(3_000):
        user, item = int(rng.integers(40)), int(rng.integers(60))
        rated.append(f"{user},{item},{5 if user % 2 == item % 2 else 2},{1_500_000_000 + 600 * moment}")
    (folder / "data/rated/rated.csv").write_text("\n".join(rated) + "\n")
    for name, text in (("suite.yaml", SUITE), ("rated.yaml", MAPPING), ("stub.py", STUB),
                       ("stumbles.py", "raise SystemExit('tripped')")):
        (folder / name).write_text(text)
    return folder


@pytest.mark.slow
def test_one_command_prints_a_table_a_task(place):
    done = recsys(place, "suite.yaml", "--from", "data", "--only", "whole", "--only", "alone")
    # a peer that fails is told and stops nothing
    assert done.returncode == 1 and "failed: whole: stumbles" in done.stderr and "Traceback" not in done.stderr
    table = done.stdout
    assert max(map(len, table.splitlines())) <= 100
    assert "Walks, the whole funnel" in table and "Walks, single sources" in table and "Theirs *" in table
    assert "stumbles: failed: stumbles failed: tripped" in table and "Somebody, 2020" in table
    assert "whole, funnel over best part: " in table and "to reach 99: missed" in table and "0.01: reached" in table
    (kept,) = (place / "artifacts/benchmarks").iterdir()
    document = json.loads((kept / "result.json").read_text())
    whole, alone = document["tasks"]
    rows = {row["name"]: row for row in whole["rows"]}
    groups = {row["group"] for row in whole["rows"]}
    assert groups == {"funnel", "order", "source", "baseline", "peer"}
    assert {"funnel", "before re-ranking", "merge", "popularity", "markov", "implicit cosine", "trees", "stub"} <= set(
        rows
    ) and whole["data"]["test_users"] == 80
    for name in ("funnel", "merge", "markov", "implicit cosine", "trees", "stub"):
        figure = rows[name]["figures"]["ndcg@5"]
        assert figure["low"] <= figure["value"] <= figure["high"]
    best = next(row for row in whole["rows"] if row["best_part"])
    gap = rows["funnel"]["figures"]["ndcg@5"]["value"] - best["figures"]["ndcg@5"]["value"]
    assert rows["funnel"]["best_part"] or abs((rows["funnel"]["to_best"] or {"value": 0})["value"] - gap) < 1e-9
    assert rows["funnel"]["fit_seconds"] > 0 and rows["funnel"]["peak_memory_mib"] > 10
    assert rows["stub"]["peak_memory_mib"] == 7 and rows["markov"]["figures"]["ndcg@5"]["value"] > 0.4
    single = {row["name"]: row["figures"]["ndcg@5"]["value"] for row in alone["rows"]}
    assert single["markov"] > 0.4 > single["popularity"]
    # what was trained is gone, what the stub needs is kept
    assert {p.name for p in (place / "artifacts/work/benchmarks").iterdir()} == {"peers"}


@pytest.mark.slow
def test_a_task_on_its_own_windows_is_measured_as_evaluate_does(place):
    done = recsys(place, "suite.yaml", "--from", "data", "--only", "rated", "--format", "json", "-q")
    assert done.returncode == 0, done.stderr
    (task,) = json.loads(done.stdout)["tasks"]
    rows = {row["name"]: row for row in task["rows"]}
    assert rows["funnel"]["fit_seconds"] > 0 and rows["popularity"]["figures"]["ndcg@10"]["value"] > 0
    assert rows["like"]["group"] == "action" and rows["like"]["figures"]["roc_auc"]["value"] > 0.8
    best = next(row for row in task["rows"] if row["best_part"])
    assert best["group"] == "source"
    ratio = rows["funnel"]["figures"]["ndcg@10"]["value"] / best["figures"]["ndcg@10"]["value"]
    assert task["ratio"] == pytest.approx(ratio)


def test_rows_come_as_csv(place):
    done = recsys(place, "suite.yaml", "--from", "data", "--only", "alone", "--format", "csv", "-q")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0].startswith("task,system,group,metric,value,low,high,fit_seconds")
    assert sum(line.startswith("alone,markov,source,ndcg@5") for line in lines) == 1


@pytest.mark.parametrize(
    ("folder", "only", "code", "words"),
    [
        ("nowhere", (), 4, "no folder .*nowhere"),
        ("data/rated", ("alone",), 4, "alone: no file .*data/rated/walks.txt"),
        ("data/rated", ("rated",), 4, "rated: no file rated.csv in .*data/rated/rated"),
        ("data", ("alne",), 2, "did you mean 'alone'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(place, folder, only, code, words):
    suite = validate(SuiteConfig, read_yaml(place / "suite.yaml"))
    with pytest.raises(RecsysError, match=words) as refused:
        run_suite(suite, place / folder, only=only, base=place, work=place / "elsewhere")
    assert refused.value.exit_code == code and not (place / "elsewhere").exists()


def test_a_missing_file_is_named_and_is_code_4(place):
    done = recsys(place, "suite.yaml", "--from", "data/rated", "--only", "alone")
    assert done.returncode == 4 and "alone: no file data/rated/walks.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_models_belong_to_a_protocol_and_tasks_to_a_suite(place):
    (place / "one.yaml").write_text("name: a\ntitle: A\nprotocol: {kind: held_out}\nmodels: {p: {kind: popularity}}\n")
    for file, option, words in (("suite.yaml", "--model", "this is a suite"),
                                ("one.yaml", "--only", "--only names a task of a suite")):
        done = recsys(place, file, "--from", "data", option, "markov")
        assert done.returncode == 2 and words in done.stderr


def test_the_shipped_suites_are_well_formed():
    for name in ("funnel", "order"):
        path = ROOT / f"configs/benchmarks/{name}.yaml"
        tree = read_yaml(path)
        suite = validate(SuiteConfig, tree, path)
        assert {"lastfm-2k", "ml-100k-likes", "ml-100k-time", "ml-1m"} <= set(suite.tasks)
        for task in suite.tasks.values():
            for side in ("mapping", "config"):
                if getattr(task, side, None):
                    assert (path.parent / getattr(task, side)).is_file()
        for peer in suite.peers.values():
            assert not hasattr(peer, "script") or (path.parent / peer.script).is_file()
        with pytest.raises(ConfigError, match="did you mean 'tasks'"):
            validate(SuiteConfig, {**tree, "taks": tree["tasks"]}, path)
