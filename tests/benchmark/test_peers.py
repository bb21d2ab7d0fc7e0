"""Other toolkits beside the product: environments of their own, rows of what is absent, the page of the result."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recsys_cli.benchmark.list_rows import Row, measured
from recsys_cli.benchmark.splits import Rows, build_task
from recsys_cli.benchmark.suite_config import ListTaskSettings, SuiteConfig
from recsys_cli.benchmark.suite_page import suite_page, verdicts
from recsys_cli.config import read_yaml, validate

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
name: peers
title: Walks beside stubs
tasks:
  walks:
    kind: funnel
    title: Walks
    data: {form: sequences, file: walks.txt}
    split: {kind: last_share, share: 0.2}
    k: 5
    settings:
      ranking: {heavy: {min_positives: 1000000000}, relevance: {enabled: false}, choose: fusion}
      tuning: {enabled: false}
peers:
  stub one: &stub {kind: own_environment, environment: stub, packages: [WHEEL], script: stub.py, arguments: [up]}
  stub two: {kind: own_environment, environment: stub, packages: [WHEEL], script: stub.py, arguments: [down]}
  absent: {kind: own_environment, packages: [ABSENT], script: stub.py}
resamples: 200
"""
STUB = """
import csv, sys
from stub_peer import lists_of
rows, users, length, out, order = sys.argv[1:]
lists_of(list(csv.DictReader(open(rows))), open(users).read().split(), int(length), out, order)
"""
PACKAGE = """
import json

def lists_of(rows, users, length, out, order):
    items = sorted({row["item"] for row in rows}, key=int, reverse=order == "down")
    answer = {"lists": {u: items[:length] for u in users}, "fit_seconds": 1.5, "rank_seconds": 0.25}
    answer["peak_memory_mib"] = 9
    json.dump(answer, open(out, "w"))
"""


def wheel(folder: Path) -> Path:
    """A package of one module, as pip installs it without a network."""
    path = folder / "stub_peer-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stub_peer.py", PACKAGE)
        archive.writestr("stub_peer-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: stub-peer\nVersion: 1.0\n")
        told = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("stub_peer-1.0.dist-info/WHEEL", told)
        archive.writestr("stub_peer-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.slow
def test_peers_run_in_an_environment_that_the_command_makes_and_an_absent_one_stops_nothing(tmp_path):
    rng = np.random.default_rng(1)
    walks = [" ".join(str(100 + (s + step) % 40) for step in range(14)) for s in rng.integers(0, 40, 60)]
    (tmp_path / "walks.txt").write_text("\n".join(walks) + "\n")
    (tmp_path / "stub.py").write_text(STUB)
    absent = tmp_path / "no_such-1.0-py3-none-any.whl"
    text = SUITE.replace("WHEEL", str(wheel(tmp_path))).replace("ABSENT", str(absent))
    (tmp_path / "suite.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "recsys_cli", "benchmark", "suite.yaml", "--from", ".", "--page", "page.md"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "absent: absent does not install" in done.stdout and max(map(len, done.stdout.splitlines())) <= 100
    (kept,) = (tmp_path / "artifacts/benchmarks").iterdir()
    (task,) = json.loads((kept / "result.json").read_text())["tasks"]
    rows = {row["name"]: row for row in task["rows"]}
    assert rows["stub one"]["fit_seconds"] == 1.5 and rows["stub one"]["peak_memory_mib"] == 9
    for name in ("stub one", "stub two"):
        less = rows["funnel"]["figures"]["ndcg@5"]["value"] - rows[name]["figures"]["ndcg@5"]["value"]
        assert rows[name]["funnel_less"]["value"] == pytest.approx(less)
        assert rows[name]["funnel_less"]["value"] > 0.3  # people walk on; the stubs list the same to everybody
    assert "does not install" in rows["absent"]["absent"]
    places = tmp_path / "artifacts/work/benchmarks/peers"
    assert {p.name for p in places.iterdir()} == {"stub"}  # one for both
    page = (tmp_path / "page.md").read_text()
    assert "| **funnel** |" in page and "| stub one |" in page and "| 1.5 | 0.25 | 9 |" in page
    assert "- absent: absent does not install" in page and "above every peer that ran (2), beyond noise" in page


def test_the_funnel_is_compared_with_every_peer_person_by_person():
    users = np.arange(3)
    train = Rows(users, np.array([1, 2, 3]), None)
    test = Rows(users, np.array([2, 3, 1]), None)
    task = build_task(train, test, False)
    settings = ListTaskSettings.model_validate({
        "data": {"form": "sequences", "file": "a"}, "split": {"kind": "random_rows"}, "metrics": ["recall"], "k": 1,
    })  # fmt: skip
    right = task.wanted.values[task.wanted.offsets[:-1]][:, None].astype(np.int32)
    half = np.where(np.arange(3)[:, None] == 0, right, -1).astype(np.int32)
    rows = [Row("funnel", "funnel", right), Row("peer", "peer", half), Row("part", "source", half)]
    documents = {row["name"]: row for row in measured(rows, task, settings, resamples=100, seed=0)}
    assert documents["peer"]["funnel_less"]["value"] == pytest.approx(2 / 3)
    assert "funnel_less" not in documents["part"] and "funnel_less" not in documents["funnel"]


def task_of(*rows):
    figure = {"ndcg@10": {"value": 0.2, "low": 0.1, "high": 0.3}}
    costs = {"fit_seconds": 1.0, "rank_seconds": None, "peak_memory_mib": 1234.5, "request_ms": None}
    made = [{"name": n, "group": g, "best_part": g == "source", "figures": figure, "to_best": None, **costs, **more}
            for n, g, more in rows]  # fmt: skip
    return {"name": "t", "title": "A task", "metrics": ["ndcg@10"], "data": {"test_users": 1200}, "rows": made}


def less(low, high):
    return {"funnel_less": {"value": (low + high) / 2, "low": low, "high": high}}


def test_the_page_says_where_the_product_is_not_above():
    task = task_of(("funnel", "funnel", {}), ("a", "peer", less(-0.2, -0.1)), ("b", "peer", less(-0.1, 0.1)),
                   ("c", "peer", less(0.1, 0.2)), ("ease", "source", {}), ("other", "order", {}))  # fmt: skip
    assert verdicts(task) == ["below a", "not to be told from b"]
    nobody = {"funnel_less": {"value": 0.5, "low": float("nan"), "high": float("nan")}}  # of all the same difference
    assert verdicts(task_of(("d", "peer", nobody)))[0].startswith("above every peer")
    alone = {"title": "T", "created_at": "2026-01-02", "cores": 2, "seed": 1}
    page = suite_page(alone | {"tasks": [task_of(("d", "peer", nobody))]}, "f")
    assert "| d | 0.2000 [0.100, 0.300] | +0.5000 | 1.0 |" in page
    document = {"title": "Beside", "created_at": "2026-01-02T03:04:05", "cores": 2, "seed": 42, "tasks": [
        task, {"name": "u", "title": "Broken", "error": "no file", "rows": [], "metrics": ["ndcg@10"], "data": {}},
    ]}  # fmt: skip
    page = suite_page(document, "configs/benchmarks/peers.yaml")
    assert page.startswith("# Beside\n") and "1,200 test users." in page and "Failed: no file" in page
    assert "| a | 0.2000 [0.100, 0.300] | -0.1500 [-0.200, -0.100] | 1.0 |  | 1,234 |" in page
    assert "ease (our best part)" in page and "other" not in page


def test_the_shipped_suite_of_peers_is_well_formed():
    path = ROOT / "configs/benchmarks/peers.yaml"
    suite = validate(SuiteConfig, read_yaml(path), path)
    assert {"implicit", "rectools", "lenskit", "recbole"} == {peer.environment for peer in suite.peers.values()}
    packages = {}
    for peer in suite.peers.values():
        # peers that share an environment name the same packages, or each would make it anew
        assert packages.setdefault(peer.environment, peer.packages) == peer.packages
        ast.parse((path.parent / peer.script).read_text())
    assert any("two_stage" in peer.arguments for peer in suite.peers.values())
