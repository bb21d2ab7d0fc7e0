"""Rows of requests: what serves makes them, and nothing after their moment has a part in them but the labels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.split import make_split
from recsys_cli.engine import RecommendationEngine
from recsys_cli.pipeline.bundle import read_bundle, write_bundle
from recsys_cli.pipeline.order import WEIGHTED, Order
from recsys_cli.pipeline.request_features import candidate_features
from recsys_cli.pipeline.request_rows import TAKEN, joined
from recsys_cli.pipeline.requests import moment_of, moments_between, request_rows
from recsys_cli.pipeline.scoring import similarities
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.settings import Settings
from recsys_cli.training.bundles import draft_bundle
from recsys_cli.training.impressions import spec_of
from recsys_cli.training.job import TrainingJob
from recsys_cli.training.requests import feature_names

KINDS = ("popularity", "item_neighbours", "in_network")


@pytest.fixture(scope="module")
def setting(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    default = Settings()
    split = make_split(default.windows, dataset, seed=1)
    job = TrainingJob(default, dataset, split, False, Progress(), whole=dataset)
    job.lesson = SimpleNamespace(dataset=dataset, windows=split.windows, own=False)
    window = job.window(dataset.log, split.windows.history_end)
    sources = {kind: SOURCES[kind](SOURCES[kind].config_type()) for kind in KINDS}
    for source in sources.values():
        source.fit(window, Progress())
    spec = spec_of(job, sources)
    return job, draft_bundle(job, spec, sources)


def rows_at(job, bundle, log, now, end, most=100_000):
    moment = moment_of(bundle, log, now, end, job.edges, most=10_000, seed=0)
    names = feature_names(job, bundle)
    return moment, request_rows(bundle, job.settings.pipeline, [moment], names, most=most, seed=0)


CUTS = st.tuples(st.floats(0.1, 0.95), st.floats(0.01, 1.0), st.integers(0, 1_000))
"""Of the log up to the moment, of the rest up to the horizon, and a seed."""


def cut(job, cut):
    """(moment, horizon, seed) within the log."""
    log, (share, of_rest, seed) = job.dataset.log, cut
    first = int(share * len(log))
    last = min(first + 1 + int(of_rest * (len(log) - first)), len(log) - 1)
    return int(log.time[first]), max(int(log.time[last]), int(log.time[first]) + 1), seed


@given(where=CUTS)
@settings(max_examples=15)
def test_nothing_after_the_moment_has_a_part_in_a_row_but_its_label(setting, where):
    job, bundle = setting
    log, (now, end, seed) = job.dataset.log, cut(job, where)
    moment, rows = rows_at(job, bundle, log, now, end)
    assert (rows.table.time == now).all() and bool(len(rows)) == bool(len(moment.users))
    created = bundle.catalogue.item_created[rows.table.item]
    assert (created < now).all()
    assert not moment.state.seen.contains(rows.table.user, rows.table.item[:, None]).any()
    later = log.window(now, end)
    took = set(zip(later.user[later.positive].tolist(), later.item[later.positive].tolist(), strict=True))
    label = [pair in took for pair in zip(rows.table.user.tolist(), rows.table.item.tolist(), strict=True)]
    assert rows.table.labels[TAKEN].tolist() == label
    # another future, the same rows
    rng, after = np.random.default_rng(seed), log.time >= now
    actions = {name: np.where(after, rng.permutation(did), did) for name, did in log.actions.items()}
    other = replace(log, item=np.where(after, rng.permutation(log.item), log.item), actions=actions, _cache={})
    asked = moment_of(bundle, other, now, end, job.edges, most=10_000, seed=0)
    again = request_rows(
        bundle, job.settings.pipeline, [replace(asked, users=moment.users, wanted=moment.wanted)],
        feature_names(job, bundle), most=100_000, seed=0,
    )
    np.testing.assert_array_equal(rows.table.values, again.table.values)
    np.testing.assert_array_equal(rows.table.item, again.table.item)
    np.testing.assert_array_equal(rows.request, again.request)


@given(where=CUTS)
@settings(max_examples=15)
def test_what_is_wanted_lies_between_the_moment_and_the_horizon_and_could_have_been_listed(setting, where):
    job, bundle = setting
    log, (now, end, _) = job.dataset.log, cut(job, where)
    moment = moment_of(bundle, log, now, end, job.edges, most=10_000, seed=0)
    inside, before = log.window(now, end), log.window(end=now)
    shown = set(zip(before.user.tolist(), before.item.tolist(), strict=True))
    created = bundle.catalogue.item_created
    took = inside.take(np.flatnonzero(inside.positive))
    pairs = zip(took.user.tolist(), took.item.tolist(), strict=True)
    expected = {pair for pair in pairs if pair not in shown and created[pair[1]] < now}
    assert {(int(u), int(i)) for r, u in enumerate(moment.users) for i in moment.wanted[r]} == expected


@given(where=CUTS)
@settings(max_examples=10)
def test_a_row_has_the_features_that_serving_has_at_that_moment(setting, where):
    job, bundle = setting
    now, end, _ = cut(job, where)
    moment, rows = rows_at(job, bundle, job.dataset.log, now, end)
    if not len(moment.users):
        return
    engine = RecommendationEngine(
        replace(bundle, snapshot=moment.snapshot), job.settings.pipeline
    ).as_of(job.dataset.log, now, **job.edges)
    served = engine.slates(moment.users, keep_sourced=True)
    names = feature_names(job, bundle)
    query = SimpleNamespace(
        users=moment.users, snapshot=engine.snapshot, context=engine.context(None, len(moment.users)), bundle=bundle
    )
    query.context = type(query.context)(now=now)
    values = candidate_features(query, served.hydrated, names, similarities(query, served.hydrated))
    at = {
        (int(user), int(item)): values[r, c]
        for r, user in enumerate(moment.users) for c, item in enumerate(served.hydrated.items[r]) if item >= 0
    }
    assert len(at) == len(rows)
    for user, item, row in zip(rows.table.user.tolist(), rows.table.item.tolist(), rows.table.values, strict=True):
        np.testing.assert_allclose(row, at[user, item], rtol=1e-5, atol=1e-6)


def test_what_no_source_proposed_is_counted_and_no_row(setting):
    job, bundle = setting
    w = job.windows
    moment, rows = rows_at(job, bundle, job.dataset.log, w.history_end, w.validation_start)
    proposed = set(zip(rows.table.user.tolist(), rows.table.item.tolist(), strict=True))
    wanted = {(int(u), int(i)) for r, u in enumerate(moment.users) for i in moment.wanted[r]}
    assert rows.wanted == len(wanted) and rows.proposed == len(wanted & proposed)
    assert rows.proposed == int(rows.table.labels[TAKEN].sum())


def test_drawn_negatives_stand_for_all_of_their_request(setting):
    job, bundle = setting
    w = job.windows
    span = (w.history_end, w.validation_start)
    moment, every = rows_at(job, bundle, job.dataset.log, *span)
    _, few = rows_at(job, bundle, job.dataset.log, *span, most=5 * len(moment.users))
    assert few.table.labels[TAKEN].sum() == every.table.labels[TAKEN].sum()
    negatives = np.bincount(few.request, ~few.table.labels[TAKEN])
    assert negatives.max() <= 5
    weight = np.bincount(few.request, few.table.weight * ~few.table.labels[TAKEN])
    np.testing.assert_allclose(weight, np.bincount(every.request, ~every.table.labels[TAKEN]), rtol=1e-5)
    both = joined(every, few)
    assert len(both) == len(every) + len(few) and both.request.max() == every.request.max() + few.request.max() + 1


def test_moments_part_the_rows_of_a_window_evenly():
    times = np.arange(100) * 10
    assert moments_between(times, 200, 600, 2) == [(200, 400), (400, 600)]
    assert moments_between(times, 200, 600, 1) == [(200, 600)]


def test_a_bundle_keeps_the_weights_of_the_fusion_and_the_order(setting, tmp_path):
    job, bundle = setting
    moment, _ = rows_at(job, bundle, job.dataset.log, job.windows.validation_start, job.windows.test_start)
    weights = {"item_neighbours": 0.75, "popularity": 0.25}
    order = Order(WEIGHTED, "popularity", caps=False)
    whole = replace(bundle, state=moment.state, snapshot=moment.snapshot, fusion=weights, order=order)
    write_bundle(tmp_path, whole, None)
    again = read_bundle(tmp_path)
    assert again.fusion == weights and list(again.fusion) == list(weights) and again.order == order
    lists = [
        RecommendationEngine(one, job.settings.pipeline).slates(moment.users, keep_sourced=True)
        for one in (whole, again)
    ]
    np.testing.assert_array_equal(lists[0].items, lists[1].items)
    found = lists[1].hydrated.scores
    np.testing.assert_allclose(
        found["z_weighted"], 0.75 * found["z_item_neighbours"] + 0.25 * found["z_popularity"], atol=1e-6
    )
    even = RecommendationEngine(replace(whole, order=Order("fusion", "fusion")), job.settings.pipeline)
    assert (even.slates(moment.users).items != lists[0].items).any()
