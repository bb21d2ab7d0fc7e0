"""The steps of `make demo`, as processes, on a tiny world; and the contracts between them."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest


@pytest.fixture(scope="module")
def engine(trained):
    from recsys_cli import RecommendationEngine

    return RecommendationEngine.load(trained.folder / "artifacts")


def test_training_publishes_a_run_with_everything_a_reader_needs(trained):
    run = trained.folder / "artifacts" / "runs" / (trained.folder / "artifacts" / "current").read_text().strip()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["settings"]["world"]["users"] == 150
    assert (
        manifest["dataset"]["digest"] == json.loads((trained.folder / "data/world/dataset.json").read_text())["digest"]
    )
    assert {"sources", "heavy", "light"} <= set(manifest["metrics"])
    kept = {p.name for p in (run / "checkpoints").iterdir()}
    assert {"als.pt", "two_tower.pt", "item_neighbours.pt", "heavy.pt"} <= kept
    assert {p.name for p in (run / "served").iterdir()} == kept - {"heavy.pt"}
    assert manifest["refitted"] and (run / "measured" / "bundle.json").is_file()
    assert manifest["models_end"] > manifest["windows"]["test_start"]
    assert not [p for p in (trained.folder / "artifacts" / "work").iterdir() if p.suffix != ".lock"]


def test_training_never_opens_the_truth(world, tmp_path):
    place = world.copy(tmp_path / "place")
    for path in (place.folder / "data/world/truth").rglob("*"):
        if path.is_file():
            path.write_bytes(b"not for training")
    place.ok("train", "--quiet", "--set", "ranking.heavy.epochs=1", "--set", "retrieval.two_tower.epochs=1")
    # those who measure do open it
    (place.folder / "experiment.yaml").write_text("name: tiny\ntreatment: {}\ndays: 1\nmin_users: 2\n")
    place.refused(4, "ab-test", "experiment.yaml")
    place.refused(4, "evaluate")
    shutil.rmtree(place.folder / "data/world/truth")
    report = json.loads(place.ok("evaluate", "--quiet", "--format", "json"))
    assert report["oracle"] is None and report["systems"]


@pytest.mark.parametrize("columns", [80, 100])
def test_recommend_prints_a_table_that_fits_the_terminal(trained, columns):
    for more in ((), ("--explain",)):
        out = trained.ok("recommend", "--user", "1", *more, COLUMNS=str(columns))
        assert "User 1" in out and "Funnel" in out and "Sources of the slate" in out
        assert max(map(len, out.splitlines())) <= columns
        assert ("Predictions" in out) == bool(more)


def test_recommend_as_json_carries_what_the_readme_documents(trained):
    answer = json.loads(trained.ok("recommend", "--user", "1", "--format", "json", "-n", "7"))
    assert answer["user_id"] == 1 and answer["fallback"] is None and len(answer["items"]) == 7
    first = answer["items"][0]
    assert set(first) == {
        "rank",
        "item_id",
        "author_id",
        "text",
        "score",
        "sources",
        "predictions",
        "similarities",
        "safety",
        "interstitial",
        "explored",
        "reason",
        "propensity",
        "promoted",
        "creative",
        "ranks",
    }
    assert {"click", "like", "dwell_seconds"} <= set(first["predictions"])
    assert all(0 <= p <= 1 for a, p in first["predictions"].items() if a != "dwell_seconds")
    assert [row["stage"] for row in answer["funnel"]][:1] == ["sources"]
    assert answer["funnel"][-1]["out"] == 7


def test_a_user_gets_the_same_slate_alone_and_in_a_batch(engine):
    together = engine.slates(np.arange(150))
    for user in range(0, 150, 7):
        alone = engine.slates(np.array([user]))
        assert alone.items[0].tolist() == together.items[user].tolist()
        np.testing.assert_allclose(alone.scores["utility"][0], together.scores["utility"][user], rtol=1e-4)


def test_no_slate_holds_what_the_filters_forbid(engine):
    caps = engine.pipeline.diversity.model_copy(update={"enabled": True})
    engine = engine.with_pipeline(engine.pipeline.model_copy(update={"diversity": caps}))
    slates = engine.slates(np.arange(150), keep_sourced=True)
    state, catalogue = engine.state, engine.bundle.catalogue
    filled = slates.items >= 0
    assert filled.all()
    assert not state.seen.contains(slates.users, slates.items).any()
    author = catalogue.item_author[slates.items]
    assert not state.blocked.contains(slates.users, author).any()
    assert (author != slates.users[:, None]).all()
    assert (catalogue.item_created[slates.items] < state.now).all()
    for row in range(150):
        assert len(set(slates.items[row])) == 10
        # a full slate comes first: where the ranked candidates have too few authors the cap gives way
        writers = np.unique(catalogue.item_author[slates.ranked.items[row]])
        assert np.bincount(author[row]).max() <= 2 or len(writers) < 10


def test_the_python_interface_of_the_readme(trained):
    code = (
        "from recsys_cli import RecommendationEngine\n"
        "engine = RecommendationEngine.load('artifacts')\n"
        "for item in engine.recommend(user_id=1, num_results=3).items:\n"
        "    print(item.rank, item.item_id, item.reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=trained.folder, env=trained.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2", "3"]


@pytest.mark.parametrize("command", [["recommend", "--user", "1"], ["evaluate", "--quiet"]])
def test_serving_commands_never_import_a_training_library(trained, command):
    code = (
        "import sys\nfrom recsys_cli.cli.common import run\n"
        f"assert run({command!r}) == 0\n"
        "bad = {'torch', 'sklearn', 'implicit', 'lightgbm'} & set(sys.modules)\nassert not bad, bad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=trained.folder, env=trained.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_recommend_for_everybody_writes_the_same_slates_in_any_number_of_shards(trained, engine):
    trained.ok("recommend", "--all", "--output", "one.parquet")
    trained.ok("recommend", "--all", "--output", "many.parquet", "--shards", "3")
    one = pl.read_parquet(trained.folder / "one.parquet")
    many = pl.read_parquet(sorted((trained.folder / "many.parquet").glob("part-*.parquet")))
    key = ["user_id", "rank", "item_id", "sources"]
    assert one.select(key).equals(many.select(key))
    expected = engine.bundle.item_ids.external(engine.slates(np.arange(150)).items.ravel())
    assert one["item_id"].to_list() == expected
    trained.ok("recommend", "--all", "--output", "many.parquet", "--shards", "2")  # its own parts it replaces
    assert len(list((trained.folder / "many.parquet").glob("part-*.parquet"))) == 2
    (trained.folder / "many.parquet" / "thesis.txt").write_text("precious")
    told = trained.refused(2, "recommend", "--all", "--output", "many.parquet", "--shards", "2")
    assert "thesis.txt" in told and (trained.folder / "many.parquet" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_rows_have_one_schema_however_users_are_named(trained, ending):
    (trained.folder / "some.txt").write_text("4\n2\n")
    asked = {"all": ["--all"], "file": ["--users-file", "some.txt"], "user": ["--user", "2"]}
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}[ending]
    frames = {}
    for name, who in asked.items():
        trained.ok("recommend", *who, "--quiet", "--output", f"{name}.{ending}")
        frames[name] = read(trained.folder / f"{name}.{ending}")
    columns = frames["all"].columns
    head = ["user_id", "rank", "item_id", "author_id", "title", "score", "sources", "explored", "fallback"]
    assert columns[:9] == head and {"p_click", "dwell_seconds"} < set(columns)
    assert all(frame.columns == columns for frame in frames.values())
    first = [(u, *row) for u in (2, 4) for row in _ranked(frames["all"], u)]
    assert first == [(u, *row) for u in (2, 4) for row in _ranked(frames["file"], u)]
    assert _ranked(frames["user"], 2) == _ranked(frames["all"], 2)


def _ranked(rows, user):
    return rows.filter(pl.col("user_id") == user).sort("rank").select("rank", "item_id", "title").rows()


def test_explaining_adds_the_reason_and_similarities_to_rows(trained):
    out = trained.ok("recommend", "--user", "2", "--explain", "--format", "jsonl")
    told = json.loads(trained.ok("recommend", "--user", "2", "--format", "json"))
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["reason"] for row in rows] == [item["reason"] for item in told["items"]]
    assert [row["sources"] for row in rows] == [item["sources"] for item in told["items"]]
    assert rows[0]["sim_als"] == pytest.approx(told["items"][0]["similarities"]["als"], rel=1e-4)
    assert "shards" in trained.refused(2, "recommend", "--all", "--shards", "2", "--format", "csv")


def test_several_batches_use_the_threads_and_give_the_same_slates(trained, engine, monkeypatch):
    from dataclasses import replace
    from threading import get_ident

    pipeline = engine.pipeline.model_copy(update={"batch_size": 20})
    served, serve = set(), type(engine)._serve

    def noting(self, *arguments):
        served.add(get_ident())
        return serve(self, *arguments)

    monkeypatch.setattr(type(engine), "_serve", noting)
    answers = {}
    for threads in (1, 3):
        served.clear()
        several = replace(engine, pipeline=pipeline, threads=threads)
        answers[threads] = [[i.item_id for i in a.items] for a in several.recommend_many(list(range(1, 101)))]
        assert 1 <= len(served) <= threads and (threads == 1 or get_ident() not in served)
    assert answers[1] == answers[3]


def test_reasons_of_somebody_unknown_speak_of_nothing_they_did(trained, engine):
    personal = ("taste", "similar", "follow", "community", "engaged")
    answers = [engine.recommend("nobody"), engine.recommend_from(["none", "neither"])]
    for answer in answers:
        for item in answer.items:
            assert not any(word in item.reason for word in personal), item.reason
            assert "popular" not in item.reason or "popularity" in item.sources
            assert "trending" not in item.reason or "trending" in item.sources


def test_unknown_and_new_users_are_answered_and_told(trained):
    done = trained.recsys("recommend", "--user", "nobody", "--format", "json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and "unknown user" in done.stderr
    assert answer["fallback"] == "unknown user" and len(answer["items"]) == 10
    assert set(answer["mix"]) <= {"trending", "popularity", "segment_trending"}
    assert "no-fallback" in trained.refused(6, "recommend", "--user", "nobody", "--no-fallback")


def test_users_come_from_a_file_and_leave_as_rows(trained):
    (trained.folder / "users.txt").write_text("3\n\n5\n")
    out = trained.ok("recommend", "--users-file", "users.txt", "-n", "2", "--format", "csv")
    assert [line.split(",")[0] for line in out.splitlines()] == ["user_id", "3", "3", "5", "5"]


def test_context_changes_the_request_and_is_checked(trained):
    surfaces = json.loads(trained.ok("recommend", "--user", "1", "--context", "surface=home", "--format", "json"))
    assert surfaces["items"]
    assert "did you mean 'home'" in trained.refused(2, "recommend", "--user", "1", "--context", "surface=hom")
    assert "surface, device, time" in trained.refused(2, "recommend", "--user", "1", "--context", "moon=full")


def test_pipeline_settings_act_without_training_again(trained):
    options = ("--set", "pipeline.exploration.enabled=false", "--set", "pipeline.diversity.max_per_author=1",
               "--set", "pipeline.diversity.enabled=true")
    answer = json.loads(trained.ok("recommend", "--user", "1", "--format", "json", *options))
    authors = [item["author_id"] for item in answer["items"]]
    assert len(set(authors)) == len(authors)
    assert "explore" not in [row["stage"] for row in answer["funnel"]]


def test_every_stage_can_be_switched_off(trained):
    off = [
        "pipeline.light.enabled=false",
        "pipeline.heavy.enabled=false",
        "pipeline.exploration.enabled=false",
        "pipeline.diversity.enabled=false",
        "pipeline.safety.enabled=false",
        "pipeline.filters.seen=false",
    ]
    answer = json.loads(
        trained.ok("recommend", "--user", "1", "--format", "json", *(x for o in off for x in ("--set", o)))
    )
    assert len(answer["items"]) == 10
    assert answer["items"][0]["predictions"] == {}


def test_an_unfitted_source_in_the_shares_is_refused(trained):
    assert "trendng" in trained.refused(3, "recommend", "--user", "1", "--set", "pipeline.sourcing.shares.trendng=0.1")


def test_advice_names_models_and_the_sources_that_training_fits(trained):
    out = trained.ok("advise", COLUMNS="100")
    assert max(map(len, out.splitlines())) <= 100
    assert "item–item neighbours" in out and "multi-task ranker" in out
    fitted = {s["source"] for s in json.loads(trained.ok("advise", "--format", "json"))["sources"] if s["used"]}
    answer = json.loads(trained.ok("recommend", "--user", "1", "--format", "json"))
    assert set(answer["mix"]) <= fitted


def test_training_keeps_the_weights_of_the_utility(trained):
    run = trained.folder / "artifacts" / "runs" / (trained.folder / "artifacts" / "current").read_text().strip()
    utility = json.loads((run / "manifest.json").read_text())["metrics"]["utility"]
    assert utility["weights"]["like"] == 1.0 and utility["proposed"] == {}


def test_evaluate_measures_the_funnel_each_source_and_each_head(trained):
    report = json.loads(trained.ok("evaluate", "--format", "json"))
    text = json.dumps(report)
    for word in ("funnel", "two_tower", "popularity", "random", "recall", "ndcg", "roc_auc", "coverage"):
        assert word in text
    html = sorted((trained.folder / "artifacts" / "reports").rglob("*.html"))
    page = html[-1].read_text()
    assert "<svg" in page and not re.search(r"""(?:src|href)\s*=\s*["']?https?:|url\(["']?https?:|@import""", page)


def test_ab_test_compares_two_pipelines_on_simulated_users(trained):
    (trained.folder / "experiment.yaml").write_text(
        "name: tiny\ncontrol: {}\ntreatment:\n  diversity: {enabled: false}\ndays: 2\n"
    )
    result = json.loads(trained.ok("ab-test", "experiment.yaml", "--format", "json"))
    assert "p_value" in json.dumps(result)


def test_traces_go_to_the_file_and_not_to_the_console(trained):
    out = trained.recsys("recommend", "--user", "2", "--format", "json")
    assert out.stderr == "" and json.loads(out.stdout)
    lines = [
        json.loads(line)
        for path in (trained.folder / "artifacts" / "logs").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    mine = [event for event in lines if event["event"] == "slates" and event["user"] == 2]
    assert mine[-1]["stages"][0]["stage"] == "sources" and mine[-1]["ms"] > 0


def test_runs_are_listed_shown_compared_switched_and_deleted(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    first = json.loads(place.ok("runs", "list", "--format", "json"))[0]["run"]
    quick = ("--set", "ranking.heavy.epochs=1", "--set", "retrieval.two_tower.enabled=false")
    place.ok("train", "--quiet", "--final", *quick)
    runs = json.loads(place.ok("runs", "list", "--format", "json"))
    assert [r["in_use"] for r in runs] == [False, True] and [r["final"] for r in runs] == [False, True]
    second = runs[1]["run"]
    changed = {row["key"] for row in json.loads(place.ok("runs", "compare", first, second, "--format", "json"))}
    assert "settings.ranking.heavy.epochs" in changed
    assert "final" in place.recsys("evaluate").stderr
    place.ok("runs", "use", first)
    assert first in place.ok("runs", "show")
    assert "in use" in place.refused(5, "runs", "delete", first)
    place.ok("runs", "delete", second)
    assert len(json.loads(place.ok("runs", "list", "--format", "json"))) == 1


def test_doctor_says_what_it_found(trained):
    checks = {c["check"]: c["status"] for c in json.loads(trained.ok("doctor", "--format", "json"))}
    assert checks["torch"] == checks["dataset"] == checks["run in use"] == "ok"
