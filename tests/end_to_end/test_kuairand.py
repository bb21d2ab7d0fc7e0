"""The real feed, every twentieth user of it: import, train, recommend, evaluate as processes."""

import json
from pathlib import Path

import pytest
from place import Place

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def feed(kuairand_slice, tmp_path_factory) -> Place:
    place = Place(tmp_path_factory.mktemp("feed"))
    (place.folder / "tiny.yaml").write_text(
        (ROOT / "configs" / "kuairand.yaml").read_text().split("ranking:")[0]
        + "retrieval:\n  two_tower: {enabled: true, epochs: 2, dim: 32}\n  als: {dim: 16, epochs: 3}\n"
        + "ranking:\n  heavy: {kind: shared_bottom, epochs: 3, hidden: [32]}\nevaluation: {resamples: 100}\n"
    )
    mapping = str(ROOT / "configs" / "import" / "kuairand.yaml")
    place.ok("import-data", mapping, "--from", str(kuairand_slice), "--to", "data/kuairand")
    place.ok("train", "--quiet")
    return place


def test_the_imported_feed_is_valid(feed):
    checks = json.loads(feed.ok("data", "validate", "--format", "json"))
    assert "kuairand" in json.dumps(json.loads(feed.ok("data", "describe", "--format", "json")))
    assert checks


def test_what_the_feed_lacks_steps_aside_once(feed):
    run = json.loads(feed.ok("runs", "show", "--format", "json"))
    assert [note for note in run["notes"] if "social_proof" in note]
    assert len(run["notes"]) == len(set(run["notes"]))
    assert {"click", "long_view"} <= set(run["metrics"]["heavy"])


def test_a_slate_of_the_feed(feed):
    answer = json.loads(feed.ok("recommend", "--user", "0", "--format", "json"))
    assert len(answer["items"]) == 10
    assert {"click", "long_view", "dwell_seconds"} <= set(answer["items"][0]["predictions"])
    assert max(map(len, feed.ok("recommend", "--user", "0", COLUMNS="100").splitlines())) <= 100


def test_the_feed_is_evaluated_on_its_last_two_days(feed):
    report = json.loads(feed.ok("evaluate", "--format", "json"))
    views = {view["view"]: view for view in report["impressions"]["views"]}
    assert len(views) >= 2
    click = next(a for a in report["impressions"]["views"][0]["actions"] if a["action"] == "click")
    assert click["roc_auc"]["value"] > 0.6
    systems = {system["name"] for system in report["systems"]}
    assert {"funnel", "two_tower", "popularity", "random"} <= systems


def test_an_imported_feed_has_nobody_to_simulate(feed):
    experiment = str(ROOT / "configs" / "experiments" / "diversity.yaml")
    assert "--log" in feed.refused(4, "ab-test", experiment)
