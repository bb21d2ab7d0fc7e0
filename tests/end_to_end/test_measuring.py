"""`recsys evaluate` and `recsys ab-test` as processes on a tiny world."""

from __future__ import annotations

import html.parser
import json
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

EXPERIMENT = "name: tiny\ntreatment:\n  diversity: {max_per_author: 1}\ndays: 2\nmin_users: 20\n"


@pytest.fixture(scope="module")
def report(trained) -> dict:
    return json.loads(trained.ok("evaluate", "--format", "json"))


@pytest.fixture(scope="module")
def engine(trained):
    from recsys_cli import RecommendationEngine

    return RecommendationEngine.load(trained.folder / "artifacts", measured=True)


@pytest.fixture(scope="module")
def experiment(trained) -> str:
    (trained.folder / "measured.yaml").write_text(EXPERIMENT)
    return "measured.yaml"


def test_the_funnel_figures_are_those_of_the_slates_that_are_served(trained, report, engine):
    from recsys_cli.data.dataset import Dataset

    dataset = Dataset.open(trained.folder / "data/world")
    cut = engine.manifest.windows.test_start
    past = engine.as_of(dataset.log, cut, follows=dataset.edges("follows"), blocks=dataset.edges("blocks"))
    log = dataset.log
    positive = log.positive
    before = set(
        zip(log.user[positive & (log.time < cut)].tolist(), log.item[positive & (log.time < cut)].tolist(), strict=True)
    )
    shown = set(zip(log.user[log.time < cut].tolist(), log.item[log.time < cut].tolist(), strict=True))
    truth: dict[int, set] = {}
    for user, item in zip(
        log.user[positive & (log.time >= cut)].tolist(), log.item[positive & (log.time >= cut)].tolist(), strict=True
    ):
        if (user, item) not in before | shown and dataset.catalogue.item_created[item] < cut:
            truth.setdefault(user, set()).add(item)
    users = sorted(truth)
    slates = past.slates(np.array(users, np.int32)).items
    recalls = [len(truth[u] & set(row.tolist())) / len(truth[u]) for u, row in zip(users, slates, strict=True)]
    funnel = report["systems"][0]
    assert funnel["name"] == "funnel" and report["users"] == len(users)
    figure = funnel["metrics"]["recall@10"]
    assert figure["value"] == pytest.approx(np.mean(recalls))
    assert figure["low"] <= figure["value"] <= figure["high"]
    covered = len(np.unique(slates[slates >= 0])) / report["catalogue"]["available"]
    assert funnel["metrics"]["coverage@10"]["value"] == pytest.approx(covered)


def test_predictions_on_impressions_agree_with_scikit_learn(trained, report, engine):
    from sklearn.metrics import roc_auc_score

    from recsys_cli.data.dataset import Dataset
    from recsys_cli.evaluation.impressions import predict_impressions

    dataset = Dataset.open(trained.folder / "data/world")
    edges = {t: dataset.edges(t) for t in ("follows", "blocks")}
    past = engine.as_of(dataset.log, engine.manifest.windows.test_start, **edges)
    predicted, log = predict_impressions(past, dataset, edges)
    click = next(a for a in report["impressions"]["views"][0]["actions"] if a["action"] == "click")
    assert click["rows"] == len(log) and click["positives"] == int(log.actions["click"].sum())
    assert click["roc_auc"]["value"] == pytest.approx(roc_auc_score(log.actions["click"], predicted["click"]), abs=1e-6)
    assert click["roc_auc"]["low"] < click["roc_auc"]["value"] < click["roc_auc"]["high"]


def test_every_source_and_baseline_is_measured_and_all_beat_nothing(report):
    names = [s["name"] for s in report["systems"]]
    assert {"funnel", "before re-ranking", "random", "popularity", "als", "two_tower", "in_network"} <= set(names)
    metrics = {s["name"]: s["metrics"] for s in report["systems"]}
    assert (
        metrics["random"]["recall@100"]["value"]
        < metrics["funnel"]["recall@100"]["value"]
        <= report["sourced"]["recall"]["value"]
    )
    assert all(m["recall@5"]["value"] <= m["recall@100"]["value"] + 1e-12 for m in metrics.values())


def test_the_rankers_are_measured_by_leaving_them_out(report):
    metrics = {s["name"]: s["metrics"] for s in report["systems"]}
    assert [row["against"] for row in report["heavy_ranker"]] == ["without heavy", "sources alone", "fusion"]
    for row in report["heavy_ranker"]:
        for metric in ("recall@10", "ndcg@10", "replay@10", "true_ndcg@10", "true_value@10"):
            gain, less = row["metrics"][metric], metrics[row["against"]][metric]["value"]
            assert gain["value"] == pytest.approx(metrics["funnel"][metric]["value"] - less)
            assert gain["low"] <= gain["value"] <= gain["high"]
        assert metrics[row["against"]]["coverage@10"] != metrics["funnel"]["coverage@10"]


def test_the_funnel_is_compared_with_its_best_source_popularity_and_itself_before_re_ranking(report):
    metrics = {s["name"]: s["metrics"] for s in report["systems"]}
    rows = {row["role"]: row for row in report["against"]}
    assert list(rows) == ["best source", "popularity", "before re-ranking"]
    sources = {s["name"]: s["metrics"]["ndcg@10"]["value"] for s in report["systems"] if s["kind"] == "source"}
    assert sources[rows["best source"]["against"]] == max(sources.values())
    for row in rows.values():
        gain = row["metrics"]["ndcg@10"]
        less = metrics[row["against"]]["ndcg@10"]["value"]
        assert gain["value"] == pytest.approx(metrics["funnel"]["ndcg@10"]["value"] - less)
        # an interval is given, or refused where too few people differ
        assert gain["low"] is None or gain["low"] <= gain["value"] <= gain["high"]


def test_ranking_on_from_what_another_pipeline_hydrated_gives_the_slates_of_a_whole_request(engine):
    whole = engine.slates(np.arange(150, dtype=np.int32), keep_sourced=True)
    pipeline = engine.pipeline.model_copy(update={"batch_size": 64})
    light = pipeline.model_copy(update={"heavy": pipeline.heavy.model_copy(update={"enabled": False})})
    reduced = engine.with_pipeline(light)
    on = reduced.slates(whole.users, keep_sourced=True, hydrated=whole.hydrated)
    again = reduced.slates(whole.users, keep_sourced=True)
    assert np.array_equal(on.items, again.items) and np.array_equal(on.ranked.items, again.ranked.items)
    assert [stage.name for stage in on.funnel] == [stage.name for stage in again.funnel][-len(on.funnel) :]
    assert on.funnel[0].name == "light" and on.funnel[0].before == pytest.approx(again.funnel[-len(on.funnel)].before)
    assert not np.array_equal(on.items, whole.items)


def test_a_generated_world_judges_every_list_and_every_prediction(report):
    metrics = {s["name"]: s["metrics"] for s in report["systems"]}
    assert report["oracle"]["users"] == report["users"] and 100 < report["oracle"]["items"] < 1500
    assert all(metrics["oracle"][f"true_ndcg@{k}"]["value"] == 1 for k in report["k"])
    assert all(m["true_ndcg@100"]["value"] <= 1 for m in metrics.values())
    assert metrics["random"]["true_ndcg@10"]["value"] < metrics["funnel"]["true_ndcg@10"]["value"]
    actions = {a["action"]: a for a in report["impressions"]["views"][0]["actions"]}
    for action in ("click", "like"):
        oracle, auc = actions[action]["oracle_roc_auc"], actions[action]["roc_auc"]["value"]
        assert 0.5 < auc < oracle < 1 and actions[action]["oracle_share"] == pytest.approx((auc - 0.5) / (oracle - 0.5))
    assert any(t["target"].startswith("share of the oracle") for t in report["targets"])


def test_without_the_truth_nothing_of_it_is_reported_and_no_world_opened(trained, tmp_path):
    place = trained.copy(tmp_path / "imported")
    shutil.rmtree(place.folder / "data/world/truth")
    code = (
        "import sys\nfrom recsys_cli.cli.common import run\n"
        "assert run(['evaluate', '--quiet', '--users', '30', '--format', 'json', '--output', 'r.json']) == 0\n"
        "assert run(['evaluate', '--quiet', '--full', '--users', '30']) == 0\n"
        "bad = {m for m in sys.modules if m in ('recsys_cli.world.simulator', 'recsys_cli.world.behaviour')}\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place.folder, env=place.environment(COLUMNS="100"), capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "oracle" not in done.stdout and "True NDCG" not in done.stdout and "log loss" in done.stdout
    report = json.loads((place.folder / "r.json").read_text())
    assert report["oracle"] is None and len(report["heavy_ranker"]) == 3
    assert not [m for s in report["systems"] for m in s["metrics"] if m.startswith("true")]
    assert report["impressions"]["views"][0]["actions"][0]["oracle_share"] is None


def test_shares_and_hits_by_source_add_up(report):
    filled = sum(r["slots"] * r["share"] > 0 for r in report["by_source"])
    assert filled >= 3 and sum(r["alone"] for r in report["by_source"]) <= 1
    assert all(r["hits"] <= r["slots"] for r in report["by_source"])


def test_the_report_is_kept_beside_the_runs_and_names_no_other_machine(trained, report):
    folder = trained.folder / "artifacts" / "reports" / report["run"]
    assert json.loads((folder / "evaluation.json").read_text())["systems"] == report["systems"]
    page = (folder / "evaluation.html").read_text()
    wanted = []

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            wanted.extend(v for k, v in attributes if k in ("src", "href", "data"))

    Links().feed(page)
    assert not wanted and "@import url" not in page and page.count('class="chart') >= 5
    trained.ok("evaluate", "--quiet", "--users", "5", "-k", "3", "--html", "here.html", "--output", "there.html")
    assert (trained.folder / "here.html").read_bytes() == (trained.folder / "there.html").read_bytes()


def test_tables_fit_a_hundred_columns_and_rows_leave_as_csv_and_parquet(trained):
    short = trained.ok("evaluate", "--users", "40", COLUMNS="100")
    assert max(map(len, short.splitlines())) <= 100 and len(short.splitlines()) < 45
    assert "The list " in short and "best source" in short and "Targets" in short and "ROC-AUC (95 %)" not in short
    narrow = trained.ok("evaluate", "--users", "40", COLUMNS="80")
    assert max(map(len, narrow.splitlines())) <= 80 and " before re-ranking  " in narrow and "True NDCG" in narrow
    out = trained.ok("evaluate", "--full", "--users", "40", "-k", "5", "-k", "10", COLUMNS="100")
    assert max(map(len, out.splitlines())) <= 100 and "ROC-AUC" in out and "Targets" in out
    trained.ok("evaluate", "--quiet", "--users", "40", "-k", "5", "--output", "rows.parquet")
    rows = pl.read_parquet(trained.folder / "rows.parquet")
    assert set(rows["part"].unique()) >= {"ranking", "source", "impressions", "sourced"}
    assert rows.filter((pl.col("part") == "ranking") & (pl.col("metric") == "ndcg"))["k"].unique().to_list() == [5]


def test_evaluating_twice_gives_the_same_figures(trained):
    first, second = (json.loads(trained.ok("evaluate", "--users", "30", "--format", "json")) for _ in range(2))
    for report in (first, second):
        del report["seconds"], report["funnel"]
    assert first == second


def test_a_run_of_other_data_is_refused(trained, tmp_path):
    place = trained.copy(tmp_path / "other")
    place.ok("generate-data", "--quiet", "--seed", "9", "--data-dir", "data/other")
    assert "was trained on" in place.refused(5, "evaluate", "--data-dir", "data/other")


@pytest.mark.slow
def test_an_experiment_gives_the_same_result_in_one_process_and_in_two(trained, experiment):
    one, two = (json.loads(trained.ok("ab-test", experiment, "--format", "json", "--threads", t)) for t in ("1", "2"))
    assert one == two
    assert one["users"]["control"] + one["users"]["treatment"] == 150 and len(one["daily"]) == 4
    metrics = {m["metric"]: m for m in one["metrics"]}
    assert metrics["authors_per_slate"]["treatment"] > metrics["authors_per_slate"]["control"]
    assert metrics["authors_per_slate"]["p_value"] < 0.01 and one["split"]["passed"]


def test_a_saved_simulation_gives_the_same_statistics_as_a_log(trained, experiment):
    simulated = json.loads(
        trained.ok("ab-test", experiment, "--days", "1", "--save-log", "exposures.parquet", "--format", "json")
    )
    analysed = json.loads(trained.ok("ab-test", experiment, "--log", "exposures.parquet", "--format", "json"))
    assert analysed["users"] == simulated["users"] and analysed["kind"] == "log"
    for a, b in zip(analysed["metrics"], simulated["metrics"], strict=True):
        assert a["metric"] == b["metric"] and a["lift"] == pytest.approx(b["lift"], nan_ok=True)
        assert a["p_value"] == pytest.approx(b["p_value"], nan_ok=True)


def test_the_result_is_a_table_of_a_hundred_columns_and_a_verdict(trained, experiment):
    out = trained.ok("ab-test", experiment, "--days", "1", COLUMNS="100")
    assert max(map(len, out.splitlines())) <= 100
    assert "interval" in out and "Decision:" in out and "authors_per_slate" in out
    trained.ok("ab-test", experiment, "--quiet", "--days", "1", "--output", "result.csv")
    assert "lift_low" in pl.read_csv(trained.folder / "result.csv").columns


def test_bad_experiments_are_refused(trained, tmp_path):
    (trained.folder / "wrong.yaml").write_text("name: w\ntreatment: {diversty: {}}\n")
    assert "did you mean 'diversity'?" in trained.refused(3, "ab-test", "wrong.yaml")
    assert "no configuration file" in trained.refused(3, "ab-test", "none.yaml")
    (trained.folder / "long.yaml").write_text("name: l\ndays: 900\n")
    assert "publishes new items for" in trained.refused(3, "ab-test", "long.yaml")
    (trained.folder / "log.csv").write_text("user_id,varient,click\n1,control,1\n")
    assert "did you mean 'varient'?" in trained.refused(4, "ab-test", "long.yaml", "--log", "log.csv")
    place = trained.copy(tmp_path / "imported")
    manifest = place.folder / "data/world/dataset.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"origin": {"mapping": "own"}}))
    assert "--log" in place.refused(4, "ab-test", "long.yaml")
