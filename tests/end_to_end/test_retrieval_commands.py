"""The commands around candidate sources, as a person would run them."""

import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def engine(trained):
    from recsys_cli import RecommendationEngine

    return RecommendationEngine.load(trained.folder / "artifacts")


def test_similar_items_answers_with_ids_of_the_owner(trained, engine):
    popular = engine.bundle.item_ids.external([int(np.argmax(engine.state.interactions))])[0]
    for source in ("item_neighbours", "als", "two_tower"):
        text = trained.ok("similar-items", str(popular), "--source", source, "-n", "5", "--format", "json")
        answer = json.loads(text)
        assert answer["id"] == popular and answer["source"] == source and answer["kind"] == "item"
        ids = [row["id"] for row in answer["nearest"]]
        assert len(ids) == len(set(ids)) == 5 and popular not in ids
        assert (engine.bundle.item_ids.positions(ids) >= 0).all()
        scores = [row["score"] for row in answer["nearest"]]
        assert scores == sorted(scores, reverse=True)


def test_similar_items_prints_a_table_of_a_hundred_columns(trained):
    out = trained.ok("similar-items", "1", "-n", "3", COLUMNS="100")
    assert "Like item 1" in out and max(map(len, out.splitlines())) <= 100


def test_similar_users_by_default_asks_a_source_that_can_tell(trained):
    answer = json.loads(trained.ok("similar-users", "1", "-n", "4", "--format", "json"))
    assert answer["source"] in ("als", "two_tower") and len(answer["nearest"]) == 4
    assert 1 not in [row["id"] for row in answer["nearest"]]


def test_more_neighbours_than_the_catalogue_holds_gives_the_catalogue(trained, engine):
    text = trained.ok("similar-items", "1", "--source", "two_tower", "-n", "1000000", "--format", "json")
    assert len(json.loads(text)["nearest"]) == int(engine.state.available.sum()) - 1


def test_unknown_ids_and_sources_are_refused(trained):
    assert "is not in the dataset" in trained.refused(6, "similar-items", "nobody-wrote-this")
    assert "is not in the dataset" in trained.refused(6, "similar-users", "999999")
    assert "did you mean 'two_tower'" in trained.refused(2, "similar-items", "1", "--source", "two_towers")
    assert "measures no likeness" in trained.refused(2, "similar-users", "1", "--source", "trending")


def test_a_history_serves_somebody_who_is_not_in_the_data(trained, engine):
    busy = int(np.argmax(engine.state.history.lengths))
    history = engine.bundle.item_ids.external(engine.state.history[busy][-12:])
    text = trained.ok("recommend", "--history", ",".join(map(str, history)), "--format", "json")
    answer = json.loads(text)
    assert answer["user_id"] == "guest" and answer["fallback"] is None and len(answer["items"]) == 10
    assert not {row["item_id"] for row in answer["items"]} & set(history)
    personal = {s for row in answer["items"] for s in row["sources"]} & {"als", "two_tower", "item_neighbours"}
    assert personal
    assert any(abs(row["similarities"]["als"]) > 0 for row in answer["items"])


def test_ids_of_a_history_that_nobody_knows_are_ignored_and_counted(trained):
    done = trained.recsys("recommend", "--history", "1,what,2,ever", "--format", "json")
    assert done.returncode == 0 and "2 of 4 ids of the history are unknown and ignored" in done.stderr
    known = trained.recsys("recommend", "--history", "1,2", "--format", "json")
    ids = [[row["item_id"] for row in json.loads(d.stdout)["items"]] for d in (done, known)]
    assert ids[0] == ids[1]
    nothing = trained.recsys("recommend", "--history", "what,ever", "--format", "json")
    assert nothing.returncode == 0 and json.loads(nothing.stdout)["fallback"] == "no history"
    trained.refused(2, "recommend", "--history", " , ")
    trained.refused(2, "recommend", "--history", "1", "--user", "1")


def test_sources_measure_a_guest_like_a_known_user_with_the_same_history(engine):
    from recsys_cli.pipeline.guest import with_guest

    user = int(np.argmax(engine.state.history.lengths))
    state = with_guest(engine.state, engine.state.history[user])
    both = np.array([user, state.catalogue.n_users - 1], np.int32)
    items = np.broadcast_to(np.arange(state.catalogue.n_items, dtype=np.int32), (2, state.catalogue.n_items))
    for name, at_least in (("als", 0.99), ("item_neighbours", 0.6)):
        scores = engine.bundle.retrievers[name].score(state, both, items)
        assert np.corrcoef(*scores)[0, 1] > at_least, name


def test_a_large_catalogue_travels_with_its_index(trained, engine, tmp_path, monkeypatch):
    from recsys_cli.pipeline.bundle import read_bundle, write_bundle
    from recsys_cli.retrieval.vectors import item_index
    from recsys_cli.retrieval.vectors.approximate_index import FILE

    users = np.arange(150, dtype=np.int32)
    exact = engine.bundle.retrievers["two_tower"].retrieve(engine.state, users, 100)[0]
    monkeypatch.setattr(item_index, "LARGE", 200)
    bundle_folder = trained.folder / "artifacts" / "runs" / engine.manifest.id / "bundle"
    (tmp_path / "bundle").mkdir()
    report = write_bundle(tmp_path / "bundle", read_bundle(bundle_folder), None)
    assert report["two_tower"]["kind"].startswith("inverted lists") and report["two_tower"]["recall@100"] >= 0.98
    assert (tmp_path / "bundle/retrieval/two_tower" / FILE).is_file()
    source = read_bundle(tmp_path / "bundle").retrievers["two_tower"]
    found = source.retrieve(engine.state, users, 100)[0]
    overlap = [len(np.intersect1d(a, b)) / 100 for a, b in zip(found, exact, strict=True)]
    assert np.mean(overlap) >= 0.97


def test_retrievers_are_compared_with_their_union(trained):
    report = json.loads(trained.ok("evaluate", "--retrievers", "--format", "json"))
    rows = {row["name"]: row for row in report["retrievers"]}
    sources = [row for row in rows.values() if row["kind"] == "source"]
    assert {"in_network", "als", "two_tower", "popularity"} <= {row["name"] for row in sources}
    assert report["depths"] == [100, 500, 1500]
    for depth in ("100", "500", "1500"):
        best = max(row["recall"][depth]["value"] for row in sources)
        assert rows["union of all"]["recall"][depth]["value"] >= best
    for row in rows.values():
        values = [row["recall"][d]["value"] for d in ("100", "500", "1500")]
        assert values == sorted(values) and 0 <= row["coverage"] <= 1
    assert rows["merged"]["candidates"] <= 500
    assert all(row["ms_per_user"] > 0 and 0 <= row["adds"] <= row["recall"]["500"]["value"] for row in sources)
    table = trained.ok("evaluate", "--retrievers", "--users", "20", COLUMNS="100")
    assert "union of all" in table and max(map(len, table.splitlines())) <= 100


@pytest.fixture(scope="module")
def again(trained, tmp_path_factory):
    """A copy of the trained place in which runs are added."""
    return trained.copy(tmp_path_factory.mktemp("only") / "place")


def test_only_some_sources_are_fitted_again(again):
    first = (again.folder / "artifacts/current").read_text().strip()
    done = json.loads(
        again.ok("train", "--only", "item_neighbours", "--set", "retrieval.item_neighbours.neighbours=5",
                 "--quiet", "--format", "json")
    )  # fmt: skip
    runs = again.folder / "artifacts" / "runs"
    for folder in ("checkpoints", "history"):
        for name in ("als", "two_tower"):
            old, new = (runs / run / folder / f"{name}.pt" for run in (first, done["run"]))
            assert old.read_bytes() == new.read_bytes()
        name = "item_neighbours"
        old, new = (runs / run / folder / f"{name}.pt" for run in (first, done["run"]))
        assert new.stat().st_size < old.stat().st_size
    assert json.loads(again.ok("recommend", "--user", "1", "--format", "json"))["run_id"] == done["run"]


def test_sources_of_other_settings_data_or_windows_are_not_taken_over(again):
    kept = (again.folder / "artifacts/current").read_text()
    error = again.refused(5, "train", "--only", "two_tower,item_neighbours", "--set", "retrieval.als.dim=8")
    assert "als cannot be taken over" in error and "dim was 16, is 8" in error
    assert "another seed" in again.refused(5, "train", "--only", "als", "--seed", "5")
    assert "another windows" in again.refused(5, "train", "--only", "als", "--set", "windows.test_share=0.3")
    assert "another --final" in again.refused(5, "train", "--only", "als", "--final")
    assert "did you mean 'als'" in again.refused(2, "train", "--only", "alss")
    again.refused(2, "train", "--only", ",")
    assert (again.folder / "artifacts/current").read_text() == kept


def test_nothing_can_be_taken_over_before_the_first_training(world, tmp_path):
    assert "no trained run" in world.copy(tmp_path / "place").refused(5, "train", "--only", "als")


def test_tune_sources_prints_settings_that_the_pipeline_takes(trained, tmp_path):
    document = json.loads(trained.ok("tune", "sources", "--set", "pipeline.sourcing.candidates=60", "--format", "json"))
    lists = {row["name"]: row for row in document["lists"]}
    alone = [row for row in document["lists"] if row["kind"] == "source"]
    for metric in ("recall", "ndcg_at_10"):
        assert lists["learned"][metric]["value"] > np.mean([row[metric]["value"] for row in alone])
        assert all(0 <= row[metric]["low"] <= row[metric]["value"] <= row[metric]["high"] for row in lists.values())
    import yaml

    settings = tmp_path / "learned.yaml"
    settings.write_text(yaml.safe_dump(document["settings"]))
    answer = json.loads(trained.ok("recommend", "--user", "1", "-c", str(settings), "--format", "json"))
    asked = set(document["settings"]["pipeline"]["sourcing"]["curves"]) | {"trending", "popularity"}
    assert len(answer["items"]) == 10 and {s for row in answer["items"] for s in row["sources"]} <= asked
