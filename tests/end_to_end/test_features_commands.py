"""`recsys features` as a person would use it."""

import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def engine(trained):
    from recsys_cli import RecommendationEngine

    return RecommendationEngine.load(trained.folder / "artifacts")


def show(place, *more):
    return json.loads(place.ok("features", "show", "--user", "3", "--item", "40", "--format", "json", *more))


def test_the_list_is_what_the_ranker_takes(trained, engine):
    rows = json.loads(trained.ok("features", "list", "--format", "json"))
    assert [r["name"] for r in rows] == list(engine.bundle.heavy.names)
    assert all(r["meaning"] and r["formula"] and r["type"] in ("numeric", "categorical") for r in rows)
    only = json.loads(trained.ok("features", "list", "--group", "author", "--format", "json"))
    assert only and {r["group"] for r in only} == {"author"}


def test_without_a_run_the_list_is_that_of_the_dataset(world):
    rows = json.loads(world.ok("features", "list", "--quiet", "--format", "json"))
    names = {r["name"] for r in rows}
    assert "item_click_logodds" in names and not any(n.startswith("sim_") for n in names)


def test_a_case_shows_what_is_served(trained, engine):
    case = show(trained)
    users, items = engine.bundle.user_ids.positions([3]), engine.bundle.item_ids.positions([40])
    scores = {n: s.score(engine.state, users, items[:, None]) for n, s in engine.bundle.measuring.items()}
    values = engine.snapshot.features(users, items[:, None], engine.context({}), scores)[0, 0]
    assert [r["value"] for r in case["features"]] == pytest.approx(values.tolist(), abs=1e-6)


def test_at_the_end_of_the_log_a_case_is_counted_as_it_is_served_and_earlier_it_is_not(trained, engine):
    served = {r["name"]: r["value"] for r in show(trained)["features"]}
    counted = {r["name"]: r["value"] for r in show(trained, "--at", show(trained)["time"])["features"]}
    exact = [n for n in served if not n.startswith(("sim_", "hour_", "weekday_"))]
    close = np.isclose([served[n] for n in exact], [counted[n] for n in exact], rtol=1e-3, atol=1e-3)
    assert close.mean() > 0.97
    early = {r["name"]: r["reading"] for r in show(trained, "--at", "1990-01-01")["features"]}
    assert early["user_impressions"] == "0" and early["user_since_shown"] == "never"
    assert early["user_click_logodds"] == "5.00 %"


def test_what_cannot_be_shown_is_refused(trained):
    assert "groups are" in trained.refused(2, "features", "list", "--group", "people")
    assert "not in the run" in trained.refused(6, "features", "show", "--user", "no", "--item", "40")
    assert "not a time" in trained.refused(2, "features", "show", "--user", "3", "--item", "40", "--at", "soon")


def test_the_table_fits_a_hundred_columns(trained):
    out = trained.ok("features", "show", "--user", "3", "--item", "40", COLUMNS="100")
    assert "User 3 and item 40" in out and max(map(len, out.splitlines())) <= 100
    out = trained.ok("features", "list", "--group", "pair", COLUMNS="100")
    assert max(map(len, out.splitlines())) <= 100
