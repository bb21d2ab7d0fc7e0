"""The default world with the default settings, as `make demo` runs it."""

import json
from pathlib import Path

import pytest
from place import Place

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Place:
    place = Place(tmp_path_factory.mktemp("demo"))
    (place.folder / "tiny.yaml").write_text("")
    place.ok("generate-data")
    place.ok("train", "--quiet")
    return place


def test_the_default_world_is_as_large_as_promised(demo):
    manifest = json.loads((demo.folder / "data/world/dataset.json").read_text())
    assert manifest["tables"]["users"]["rows"] == 1000 and manifest["tables"]["items"]["rows"] == 10_000
    described = json.loads(demo.ok("data", "describe", "--format", "json"))
    assert manifest["tables"]["impressions"]["rows"] >= 200_000
    assert '"interactions"' in json.dumps(described)


def test_the_heavy_ranker_learns_what_people_do(demo):
    report = json.loads(demo.ok("evaluate", "--format", "json"))
    auc = {a["action"]: a["roc_auc"]["value"] for a in report["impressions"]["views"][0]["actions"]}
    assert auc["click"] > 0.78 and auc["like"] > 0.82
    ndcg = {s["name"]: s["metrics"]["ndcg@10"]["value"] for s in report["systems"]}
    assert ndcg["funnel"] > 3 * ndcg["popularity"] > 0
    for row in report["heavy_ranker"]:
        assert row["metrics"]["true_ndcg@10"]["low"] > 0 and row["metrics"]["true_value@10"]["low"] > 0


def test_a_slate_and_an_experiment(demo):
    assert len(json.loads(demo.ok("recommend", "--user", "1", "--format", "json"))["items"]) == 10
    experiment = str(ROOT / "configs" / "experiments" / "diversity.yaml")
    result = json.loads(demo.ok("ab-test", experiment, "--days", "2", "--format", "json"))
    assert result["split"]["passed"]
