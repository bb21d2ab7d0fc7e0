"""Rows of requests: what serves makes them, and nothing after their moment has a part in them but the labels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.split import make_split
from recsys_cli.engine import RecommendationEngine
from recsys_cli.pipeline.request_features import candidate_features
from recsys_cli.pipeline.requests import TAKEN, joined, moment_of, moments_between, request_rows
from recsys_cli.pipeline.scoring import similarities
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.settings import Settings
from recsys_cli.training.bundles import draft_bundle
from recsys_cli.training.job import TrainingJob
from recsys_cli.training.requests import feature_names

KINDS = ("popularity", "item_neighbours", "in_network")


@pytest.fixture(scope="module")
def setting(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    settings = Settings()
    split = make_split(settings.windows, dataset, seed=1)
    job = TrainingJob(settings, dataset, split, False, Progress(), whole=dataset)
    job.lesson = SimpleNamespace(dataset=dataset, windows=split.windows, own=False)
    window = job.window(dataset.log, split.windows.history_end)
    sources = {kind: SOURCES[kind](SOURCES[kind].config_type()) for kind in KINDS}
    for source in sources.values():
        source.fit(window, Progress())
    spec = job._spec(sources)
    return job, draft_bundle(job, spec, sources)


def rows_at(job, bundle, log, now, end, most=100_000):
    moment = moment_of(bundle, log, now, end, job.edges, most=10_000, seed=0)
    names = feature_names(job, bundle)
    return moment, request_rows(bundle, job.settings.pipeline, [moment], names, most=most, seed=0)


@pytest.mark.parametrize("share", [0.45, 0.6, 0.75])
def test_nothing_after_the_moment_has_a_part_in_a_row_but_its_label(setting, share):
    job, bundle = setting
    log, end = job.dataset.log, job.windows.end
    now = int(log.time[int(share * len(log))])
    moment, rows = rows_at(job, bundle, log, now, end)
    assert len(rows) and (rows.table.time == now).all()
    created = bundle.catalogue.item_created[rows.table.item]
    assert (created < now).all()
    assert not moment.state.seen.contains(rows.table.user, rows.table.item[:, None]).any()
    later = log.window(now, end)
    took = set(zip(later.user[later.positive].tolist(), later.item[later.positive].tolist(), strict=True))
    label = [pair in took for pair in zip(rows.table.user.tolist(), rows.table.item.tolist(), strict=True)]
    assert rows.table.labels[TAKEN].tolist() == label
    # another future, the same rows
    rng = np.random.default_rng(0)
    other = replace(log, item=np.where(log.time >= now, rng.permutation(log.item), log.item), _cache={})
    asked = moment_of(bundle, other, now, end, job.edges, most=10_000, seed=0)
    again = request_rows(
        bundle, job.settings.pipeline, [replace(asked, users=moment.users, wanted=moment.wanted)],
        feature_names(job, bundle), most=100_000, seed=0,
    )
    np.testing.assert_array_equal(rows.table.values, again.table.values)
    np.testing.assert_array_equal(rows.table.item, again.table.item)


def test_a_row_has_the_features_that_serving_has_at_that_moment(setting):
    job, bundle = setting
    now = job.windows.validation_start
    moment, rows = rows_at(job, bundle, job.dataset.log, now, job.windows.test_start)
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
