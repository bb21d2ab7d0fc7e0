"""What people do around the rankers: ask why, start warm, fit the utility; as processes on a tiny world."""

import json

import pytest


def test_a_score_is_explained_and_the_parts_add_up(trained):
    case = ("explain", "--user", "3", "--item", "40", "--format", "json")
    told = json.loads(trained.ok(*case, "--action", "like"))
    served = told["predictions"]["like"]
    assert told["prediction"] == pytest.approx(served, rel=1e-4) and told["action"] == "like"
    total = told["base"] + sum(f["contribution"] for f in told["features"])
    assert total + told["completeness_error"] == pytest.approx(told["score"], abs=1e-9)
    assert abs(told["completeness_error"]) < 0.01 and told["method"].startswith("integrated gradients")
    listed = json.loads(trained.ok("recommend", "--user", "3", "--format", "json"))["items"][0]["item_id"]
    light = ("explain", "--user", "3", "--item", str(listed), "-n", "5", "--ranker", "light")
    table = trained.ok(*light, COLUMNS="100")
    assert max(map(len, table.splitlines())) <= 100 and "others" in table and "taken" in table


def test_what_cannot_be_explained_is_refused(trained):
    assert "did you mean 'like'" in trained.refused(2, "explain", "--user", "3", "--item", "40", "--action", "liek")
    assert "leave out --action" in trained.refused(
        2, "explain", "--user", "3", "--item", "40", "--ranker", "light", "--action", "like"
    )
    assert "not in the run" in trained.refused(6, "explain", "--user", "3", "--item", "nothing")


def test_the_utility_is_tuned_to_a_target_and_the_yaml_can_be_used(trained):
    predicted = json.loads(
        trained.ok("tune", "utility", "--target", "click", "--on", "predicted", "--quiet", "--format", "json",
                   "--resamples", "20")
    )
    # what foretells a click best is the prediction of a click
    assert max(predicted["weights"], key=lambda row: row["share"])["action"] == "click"
    assert predicted["on"] == "predicted" and all(row["fitted"] >= 0 for row in predicted["weights"])
    table = trained.ok("tune", "utility", "--target", "next_day_dwell", "--quiet", COLUMNS="100")
    assert max(map(len, table.splitlines())) <= 100
    (trained.folder / "fitted.yaml").write_text(
        (trained.folder / "tiny.yaml").read_text() + table[table.index("pipeline:") :]
    )
    answer = json.loads(trained.ok("recommend", "--user", "1", "--format", "json", RECSYS_CONFIG="fitted.yaml"))
    assert len(answer["items"]) == 10
    assert "did you mean" in trained.refused(2, "tune", "utility", "--target", "next_day_retrun", "--quiet")


def test_weights_of_a_users_own_change_that_users_scores_alone(trained):
    (trained.folder / "own.csv").write_text("user_id,like\n1,50\n")

    def score(user, *more):
        return json.loads(trained.ok("recommend", "--user", user, "--format", "json", *more))["items"][0]["score"]

    mine = ("--set", "pipeline.utility.personal=own.csv")
    plain = score("1")
    assert score("1", *mine) > 2 * plain and score("1", "--set", "pipeline.utility.preset=twitter") != plain
    assert "column like" in _refused_with(trained, "user_id,like\n1,much\n")


def _refused_with(place, text: str) -> str:
    (place.folder / "bad.csv").write_text(text)
    return place.refused(4, "recommend", "--user", "1", "--set", "pipeline.utility.personal=bad.csv")


@pytest.mark.slow
def test_a_run_begins_with_the_rankers_of_another(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    before = (place.folder / "artifacts/current").read_text().strip()
    more = ("--set", "ranking.precision=int8", "--set", "ranking.light.distil=true", "--only", "als",
            "--set", "ranking.baseline.enabled=true")
    done = json.loads(place.ok("train", "--quiet", "--format", "json", "--warm-start", before, *more))
    assert done["warm_start"] == before and set(done["metrics"]["int8"]) >= {"click", "like"}
    assert done["metrics"]["baseline"]["click"]["roc_auc"] > 0.6
    cut = done["metrics"]["light"]["cut"]
    assert 0.5 < next(v for k, v in cut.items() if k.startswith("top100")) <= 1
    report = json.loads(place.ok("evaluate", "--quiet", "--format", "json"))
    click = next(a for a in report["impressions"]["views"][0]["actions"] if a["action"] == "click")
    assert 0.6 < click["baseline_roc_auc"] < 1 and abs(click["baseline_roc_auc"] - click["roc_auc"]["value"]) < 0.2
    other = ("--set", "ranking.heavy={kind: mmoe}")
    assert "kind shared_bottom" in place.refused(5, "train", "--quiet", "--warm-start", "current", *other)
