"""Dense layers as arrays give what the graph and the network give, whole and in parts."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.features.build import build_table
from recsys_cli.features.context import Context
from recsys_cli.features.define import spec_of
from recsys_cli.features.registry import all_families
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.ranking.networks.as_arrays import dense_layers
from recsys_cli.ranking.networks.kinds import DcnConfig, EsmmConfig, SharedBottomConfig
from recsys_cli.ranking.registry import load_ranker
from recsys_cli.ranking.serving.dense import DENSE_FILE, DenseRanker
from recsys_cli.ranking.serving.served import GraphRanker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import make_table
from recsys_cli.testing.small_world import small_world

QUICK = {"epochs": 2, "min_steps": 0, "hidden": [16, 8]}


@pytest.mark.parametrize(
    "config",
    [
        SharedBottomConfig(**QUICK, calibration="platt"),
        SharedBottomConfig(**QUICK, batch_norm=False, calibration="isotonic"),
        SharedBottomConfig(**QUICK, dwell_loss="quantile", calibration="temperature"),
        SharedBottomConfig(**QUICK, dwell=False),
    ],
    ids=["batch norm", "isotonic", "quantile", "no dwell"],
)
def test_arrays_graph_and_network_agree(config, tmp_path):
    valid = make_table(2500, seed=1)  # more rows than are taken at once
    valid.values[:5] *= 1e6  # far outside what training saw
    valid.values[5, -1] = 99
    ranker = fit_heavy(config, make_table(1500), valid, seed=3)
    ranker.export(tmp_path)
    dense = load_ranker(tmp_path)
    ranker.export(tmp_path, graph=True)
    graph = GraphRanker.load(tmp_path)
    assert isinstance(dense, DenseRanker) and isinstance(graph, GraphRanker)
    found, expected, trained = (r.predict(valid.values) for r in (dense, graph, ranker))
    assert found.keys() == expected.keys() == trained.keys()
    for name in found:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[name], trained[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        SharedBottomConfig(**QUICK, members=2), SharedBottomConfig(**QUICK, head=4),
        EsmmConfig(**QUICK, behind=["like"]), DcnConfig(**QUICK),
    ],
    ids=["members", "deep heads", "stages", "crosses"],
)
def test_what_is_more_than_dense_layers_stays_a_graph(config, tmp_path):
    ranker = fit_heavy(config, make_table(800), make_table(400, seed=1), seed=3)
    ranker.export(tmp_path)
    assert dense_layers(ranker.network, ranker.spec, len(ranker.names)) is None
    assert not (tmp_path / DENSE_FILE).exists() and isinstance(load_ranker(tmp_path), GraphRanker)


@pytest.fixture(scope="module")
def world():
    """A snapshot of a small world, and a ranker of its features."""
    given = small_world(5, 600)
    given = replace(given, catalogue=replace(given.catalogue, before={}))
    spec = spec_of(given.facts, all_families().values())
    table = build_table(spec, given.catalogue, given.log, None, given.edges)
    snapshot = Snapshot.build(spec, given.catalogue, given.log, int(given.log.time[-1]) + 1, given.edges)
    return snapshot, fit_heavy(SharedBottomConfig(**QUICK, min_positives=1), table, table, seed=0)


@pytest.mark.parametrize("later", [0, 10**10])
def test_predictions_of_parts_are_those_of_rows(world, tmp_path, later):
    snapshot, ranker = world
    ranker.export(tmp_path)
    dense = load_ranker(tmp_path)
    rng = np.random.default_rng(later)
    users = np.array([0, 3, -1, 5, 3], np.int32)
    items = rng.integers(-1, len(snapshot.keys.author), (5, 9)).astype(np.int32)
    context = Context(snapshot.now + later)
    values = snapshot.features(users, items, context, {}, dense.names)
    for _ in range(2):  # what is kept of items is read the second time
        found = dense.predict_parts(snapshot.parts(users, items, context, {}, dense.names))
        for name, expected in dense.predict(values.reshape(45, -1)).items():
            expected = expected.reshape(5, 9)
            np.testing.assert_allclose(
                found[name][items >= 0], expected[items >= 0], rtol=1e-5, atol=1e-5, err_msg=name
            )
