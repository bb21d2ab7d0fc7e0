"""The light ranker is a logistic regression that survives a trip through JSON."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from light_rankers import fitted_light
from sklearn.linear_model import LogisticRegression

from recsys_cli.errors import ArtifactError, DataError
from recsys_cli.features.context import Context
from recsys_cli.features.define import spec_of
from recsys_cli.features.registry import all_families
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.ranking.light import LightRanker
from recsys_cli.ranking.logistic import fit_logistic
from recsys_cli.testing.ranker_tables import make_table
from recsys_cli.testing.small_world import small_world


def test_newton_finds_what_scikit_learn_finds():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (400, 3))
    y = rng.random(400) < 1 / (1 + np.exp(-(x @ [1.0, -2.0, 0.0] + 0.5)))
    expected = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(x, y)
    design = np.column_stack([x, np.ones(400)])
    found = fit_logistic(design, y, penalty=np.array([2.0, 2.0, 2.0, 0.0]))
    assert found[:3] == pytest.approx(expected.coef_[0], abs=1e-5)
    assert found[3] == pytest.approx(expected.intercept_[0], abs=1e-5)


def test_newton_survives_separable_data():
    x = np.linspace(-1, 1, 50)
    beta = fit_logistic(np.column_stack([x, np.ones(50)]), x > 0, penalty=np.array([1e-3, 0.0]))
    assert np.isfinite(beta).all()
    assert beta[0] > 10


def test_a_weight_of_2_is_a_row_that_stands_twice():
    rng = np.random.default_rng(1)
    x, y = np.column_stack([rng.normal(0, 1, 60), np.ones(60)]), rng.random(60) < 0.4
    twice = fit_logistic(np.vstack([x, x[:20]]), np.append(y, y[:20]), penalty=np.ones(2))
    weight = np.where(np.arange(60) < 20, 2.0, 1.0)
    assert fit_logistic(x, y, penalty=np.ones(2), weight=weight) == pytest.approx(twice, abs=1e-8)


def test_it_predicts_a_positive_action_for_any_shape_of_candidates():
    table = make_table(3000)
    ranker = fitted_light(table)
    columns = [table.names.index(n) for n in ranker.names]
    scores = ranker.predict(table.values[:, columns])
    assert 0.6 < ranker.auc < 1
    positive = table.labels["click"] | table.labels["like"]
    assert scores.dtype == np.float32
    assert scores.mean() == pytest.approx(positive.mean(), abs=0.01)
    block = table.values[:600, columns].reshape(20, 30, 3)
    assert np.allclose(ranker.predict(block).ravel(), scores[:600], atol=1e-6)


def test_it_comes_back_from_json(tmp_path):
    table = make_table()
    ranker = fitted_light(table)
    ranker.save(tmp_path / "light.json")
    back = LightRanker.load(tmp_path / "light.json")
    assert back == ranker
    rows = table.values[:, [4, 0, 1]]
    assert np.array_equal(back.predict(rows), ranker.predict(rows))


@pytest.mark.parametrize(
    "harm",
    [
        lambda c: b"garbage", lambda c: b"[]", lambda c: b"",
        lambda c: orjson.dumps({k: v for k, v in c.items() if k != "std"}),
        lambda c: orjson.dumps(c | {"mean": c["mean"][:-1]}), lambda c: orjson.dumps(c | {"light_version": 7}),
    ],
    ids=["garbage", "list", "empty", "key missing", "lengths", "version"],
)
def test_a_damaged_file_is_an_artifact_error(tmp_path, harm):
    path = tmp_path / "light.json"
    fitted_light(make_table()).save(path)
    path.write_bytes(harm(orjson.loads(path.read_bytes())))
    with pytest.raises(ArtifactError, match=r"light\.json"):
        LightRanker.load(path)


def test_what_cannot_be_fitted_is_refused_with_the_reason(tmp_path):
    table = make_table(200)
    with pytest.raises(ArtifactError, match="cannot be read"):
        LightRanker.load(tmp_path / "none.json")
    table.values[7, 0] = np.nan
    with pytest.raises(DataError, match="'number_0' holds 1 values"):
        fitted_light(table)


def test_constant_and_long_tailed_features_do_no_harm():
    table = make_table(2000)
    table.values[:, 1] = 4.0
    table.values[:, 4] = np.where(np.arange(2000) == 5, 1e9, table.values[:, 4])
    ranker = fitted_light(table)
    assert ranker.logged[0]
    assert np.isfinite(ranker.predict(table.values[:, [4, 0, 1]])).all()
    assert abs(ranker.weights[2]) < 1e-6


def test_a_light_ranker_scores_parts_as_it_scores_rows():
    given = small_world(5, 400)
    given = replace(given, catalogue=replace(given.catalogue, before={}))
    spec, now = spec_of(given.facts, all_families().values()), int(given.log.time[-1]) + 1
    snapshot = Snapshot.build(spec, given.catalogue, given.log, now, given.edges)
    rng = np.random.default_rng(0)
    users, items = np.array([0, 3, -1], np.int32), rng.integers(0, given.catalogue.n_items, (3, 8)).astype(np.int32)
    of_request = ("z_mean", "fused_rank")
    others = ("user_click_logodds", "hour_sine", "item_impressions", "item_age", "user_author_impressions", "sim_als")
    names = ("item_click_logodds", *of_request, *others)
    ranker = LightRanker(
        names, tuple(rng.random(9) < 0.5), *(tuple(rng.normal(size=9).tolist()) for _ in range(1)),
        tuple(rng.uniform(0.5, 2, 9).tolist()), tuple(rng.normal(size=9).tolist()), 0.3,
    )
    asked = rng.normal(size=(2, 3, 8)).astype(np.float32)
    sims = {"als": rng.normal(size=(3, 8)).astype(np.float32)}
    later = Context(now + 10**10)
    held = snapshot.features(users, items, later, sims, ("item_click_logodds", *others))
    rows = np.concatenate([held[..., :1], np.moveaxis(asked, 0, 2), held[..., 1:]], axis=2)
    parts = snapshot.parts(users, items, later, sims, ("item_click_logodds", *others))
    for _ in range(2):  # what is kept of items is read the second time
        found = ranker.predict_parts(of_request, asked.copy(), parts)
        np.testing.assert_allclose(found, ranker.predict(rows), rtol=1e-5, atol=1e-6)
    alone = LightRanker(of_request, (False, True), (0.1, 0.2), (1.0, 2.0), (0.5, -1.0), 0.3)
    expected = alone.predict(np.moveaxis(asked, 0, 2))
    np.testing.assert_allclose(alone.predict_parts(of_request, asked.copy(), None), expected, rtol=1e-5, atol=1e-6)
