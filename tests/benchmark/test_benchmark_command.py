"""`recsys benchmark` as a process on folders of the forms that public benchmarks have."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

GOWALLA = """
name: little
title: A little benchmark
protocol: {kind: held_out, k: [3]}
models:
  filter: {kind: graph_filter, dim: 4}
  linear: {kind: ease, l2: 5}
  popular: {kind: popularity}
search:
  filter: {sharpening: [0.0, 0.4], low_pass: [0.0, 0.5]}
published:
  - {method: Theirs, figures: {recall@3: 0.5, ndcg@3: 0.9}, source: "Somebody, 2020"}
"""
RATINGS = """
name: stars
title: Ratings
protocol: {kind: rating_folds, ratings: u.data, header: false, folds: 4}
rating_models:
  bias: {kind: baseline}
published:
  - {method: Theirs, figures: {rmse: 0.1, mae: 0.1}, source: "Somebody, 2020"}
"""


def recsys(folder, *arguments: str, module: str = "recsys_cli") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def place(tmp_path):
    """Users of two tastes: even users touch even items. Each hides two items of the own kind."""
    rng = np.random.default_rng(4)
    train, test = [], []
    for user in range(40):
        items = rng.permutation(np.arange(user % 2, 30, 2))
        train.append(f"{user} {' '.join(map(str, items[:10]))}")
        test.append(f"{user} {' '.join(map(str, items[10:12]))}" if user else "0")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.txt").write_text("\n".join(train) + "\n")
    (tmp_path / "data/test.txt").write_text("\n".join(test) + "\n")
    (tmp_path / "little.yaml").write_text(GOWALLA)
    (tmp_path / "stars.yaml").write_text(RATINGS)
    return tmp_path


def test_our_figures_stand_beside_the_published_ones(place):
    done = recsys(place, "benchmark", "little.yaml", "--from", "data")
    assert done.returncode == 0, done.stderr
    assert "Somebody, 2020" in done.stdout and "ours" in done.stdout and "recall@3" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    (kept,) = (place / "artifacts/benchmarks").iterdir()
    document = json.loads((kept / "result.json").read_text())
    assert [p.name for p in kept.iterdir()] == ["result.json"] and kept.name.startswith("little-")
    assert document["data"] == {"users": 40, "items": 30, "fitted_on": 400, "test_users": 39, "to_find": 78}
    models = {m["name"]: m for m in document["models"]}
    # five items of the own kind are unseen, two are to be found, the best three are taken
    for name in ("filter", "linear"):
        assert 0.45 < models[name]["figures"]["recall@3"] < 0.75
        assert models[name]["fit_seconds"] > 0 and models[name]["peak_memory_mib"] > 10
    assert models["popular"]["figures"]["recall@3"] < 0.45


def test_rows_are_ordered_and_one_model_may_run_alone(place):
    done = recsys(place, "benchmark", "little.yaml", "--from", "data", "--model", "linear", "--format", "csv", "-q")
    lines = done.stdout.splitlines()
    assert lines[0] == "method,recall@3,ndcg@3,fit_seconds,rank_seconds,peak_memory_mib,source,error"
    recalls = [float(line.split(",")[1]) for line in lines[1:]]
    assert len(recalls) == 2 and recalls == sorted(recalls, reverse=True)
    assert done.stderr == ""


def test_a_model_that_fails_does_not_stop_the_others(place):
    (place / "little.yaml").write_text(GOWALLA.replace("models:", "models:\n  blank: {kind: content}"))
    done = recsys(place, "benchmark", "little.yaml", "--from", "data")
    assert done.returncode == 1 and "recsys: 1 of 4 models failed: blank" in done.stderr
    assert "blank failed: content cannot work on this benchmark" in done.stdout and "Traceback" not in done.stderr
    (kept,) = (place / "artifacts/benchmarks").iterdir()
    models = {m["name"]: m for m in json.loads((kept / "result.json").read_text())["models"]}
    assert list(models) == ["blank", "filter", "linear", "popular"] and kept.name in done.stderr
    assert "cannot work" in models["blank"]["error"] and not models["blank"]["figures"]
    assert models["popular"]["figures"]["recall@3"] > 0 and "error" not in models["popular"]
    alone = recsys(place, "benchmark", "little.yaml", "--from", "data", "--model", "blank")
    assert alone.returncode == 1 and "Theirs" in alone.stdout and "1 of 1 models failed: blank" in alone.stderr


def test_what_stops_a_model_unforeseen_is_kept_with_its_place(place, monkeypatch):
    from recsys_cli.benchmark import run as module
    from recsys_cli.config import read_yaml, validate

    def stumbles(*given):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(module, "measure_source", stumbles)
    config = validate(module.BenchmarkConfig, read_yaml(place / "little.yaml"), place / "little.yaml")
    document = module.run_benchmark(config, place / "data")
    assert module.failures(document) == dict.fromkeys(("filter", "linear", "popular"), "ZeroDivisionError: by nought")
    assert "stumbles" in "".join(document["models"][0]["traceback"])


def test_ratings_are_measured_in_folds(place):
    rng = np.random.default_rng(0)
    rows = [f"{u}\t{i}\t{1 + (u + i) % 5}\t0" for u in range(30) for i in rng.choice(20, 8, replace=False)]
    (place / "data/u.data").write_text("\n".join(rows))
    done = recsys(place, "benchmark", "stars.yaml", "--from", "data", "--format", "json")
    assert done.returncode == 0, done.stderr
    (model,) = json.loads(done.stdout)["models"]
    assert len(model["folds"]) == 4
    assert model["figures"]["rmse"] == pytest.approx(np.mean([f["rmse"] for f in model["folds"]]))


@pytest.mark.parametrize(
    ("change", "arguments", "code", "words"),
    [
        (None, ("little.yaml", "--from", "nowhere"), 4, "no folder nowhere"),
        (("data/test.txt", None), ("little.yaml", "--from", "data"), 4, "test.txt cannot be read"),
        (("data/train.txt", "0 1 2\n1 x 4\n"), ("little.yaml", "--from", "data"), 4, "line 2: 'x' is no integer"),
        (("little.yaml", GOWALLA + "tite: x\n"), ("little.yaml", "--from", "data"), 3, "did you mean 'title'"),
        (None, ("little.yaml", "--from", "data", "--model", "filtre"), 2, "did you mean 'filter'"),
        (("data/u.data", "1\t2\n" * 9), ("stars.yaml", "--from", "data"), 4, "line 1: not a user, an item"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(place, change, arguments, code, words):
    if change:
        path = place / change[0]
        path.unlink(missing_ok=True)
        if change[1] is not None:
            path.write_text(change[1])
    done = recsys(place, "benchmark", *arguments)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr
    assert not (place / "artifacts/benchmarks").exists()


def test_settings_are_searched_without_the_test_file(place):
    (place / "data/test.txt").write_text("0 1\n")
    done = recsys(
        place, "little.yaml", "--from", "data", "--model", "filter", "--rounds", "1", module="recsys_cli.benchmark.tune"
    )
    assert done.returncode == 0, done.stderr
    assert "best of" in done.stdout and "'sharpening'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("little.yaml", "--from", "data", "--model", "filtre"), 2, "it has"),
        (("untried.yaml", "--from", "data", "--model", "filter"), 2, "names no values of 'filter'"),
        (("misspelt.yaml", "--from", "data", "--model", "filter"), 2, "'sharpness', which graph_filter does not have"),
        (("stars.yaml", "--from", "data", "--model", "bias"), 2, "ranks no items"),
        (("little.yaml", "--from", "nowhere", "--model", "filter"), 4, "cannot be read"),
        (("none.yaml", "--from", "data", "--model", "filter"), 3, "none.yaml"),
    ],
)
def test_searches_that_have_no_meaning_are_refused_with_the_reason(place, arguments, code, words):
    (place / "untried.yaml").write_text(GOWALLA.replace("search:", "search: {}\n#").replace("\n  filter: {s", "\n# {s"))
    (place / "misspelt.yaml").write_text(GOWALLA.replace("sharpening: [", "sharpness: ["))
    done = recsys(place, *arguments, module="recsys_cli.benchmark.tune")
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr
