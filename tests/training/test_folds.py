"""Parts of everybody's rows, foretold from the rest: each row once, and sides that know nothing of each other."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.row_windows import HISTORY, TEST
from recsys_cli.data.windows.split import make_split
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.settings import Settings
from recsys_cli.training.folds import SIDES, crosswise, folds_of, rows_without_side
from recsys_cli.training.impressions import spec_of
from recsys_cli.training.job import TrainingJob

USERS = st.lists(st.integers(0, 6), min_size=1, max_size=60)


@given(users=USERS, seed=st.integers(0, 5), parts=st.integers(2, 5))
def test_every_row_of_every_user_is_foretold_in_exactly_one_fold(users, seed, parts):
    user = np.array(users, np.int32)
    log = SimpleNamespace(user=user)
    folds = folds_of(log, seed, parts, random=True)
    assert len(folds) == parts and all(set(np.unique(f)) <= {HISTORY, TEST} for f in folds)
    times = np.sum([fold == TEST for fold in folds], axis=0)
    rows = np.bincount(user)[user]
    np.testing.assert_array_equal(times, np.where(rows > 1, 1, 0))  # who has one row is never without it
    for fold in folds:
        foretold = np.bincount(user, fold == TEST, minlength=7)
        mine = np.bincount(user, minlength=7)
        assert (foretold[mine > 0] < mine[mine > 0]).all()  # something is known of everybody
        assert (np.abs(foretold - mine / parts) < 1)[mine > 1].all()
    np.testing.assert_array_equal(folds, folds_of(log, seed, parts, random=True))


@given(users=USERS)
def test_rows_in_order_foretell_the_last_fifth_alone(users):
    user = np.array(users, np.int32)
    (fold,) = folds_of(SimpleNamespace(user=user), 0, 4, random=False)
    for one in np.unique(user):
        mine = fold[user == one]
        last = int(len(mine) * 0.2)
        assert mine.tolist() == [HISTORY] * (len(mine) - last) + [TEST] * last


@pytest.fixture(scope="module")
def setting(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    settings = Settings()
    split = make_split(settings.windows, dataset, seed=1)
    job = TrainingJob(settings, dataset, split, False, Progress(), whole=dataset)
    job.lesson = SimpleNamespace(dataset=dataset, windows=split.windows, own=True)
    sources = {}
    for kind in ("popularity", "item_neighbours"):
        sources[kind] = SOURCES[kind](SOURCES[kind].config_type())
        sources[kind].fit(job.window(dataset.log, split.windows.history_end), Progress())
    spec = spec_of(job, sources)
    return job, crosswise(job, spec, sources, dataset, random=True)


def test_sides_are_disjoint_and_together_everybody(setting):
    _, folds = setting
    for fold in folds:
        sides = [fold.moment.users[fold.side(which)] for which in range(SIDES)]
        # a user is on one side, the same in every fold
        np.testing.assert_array_equal(np.sort(np.concatenate(sides)), fold.moment.users)
        assert all((users % SIDES == which).all() for which, users in enumerate(sides))


def test_rankers_of_a_side_learn_from_nobody_they_are_judged_on(setting):
    _, folds = setting
    for side in range(SIDES):
        learned = np.unique(rows_without_side(folds, side).table.user)
        judged = np.unique(np.concatenate([fold.moment.users[fold.side(side)] for fold in folds]))
        assert len(learned) and len(judged) and not np.intersect1d(learned, judged).size


def test_every_row_is_left_out_on_one_side_and_requests_of_one_do_not_run_together(setting):
    _, folds = setting
    parts = [rows_without_side(folds, side) for side in range(SIDES)]
    assert sum(len(part) for part in parts) == (SIDES - 1) * sum(len(fold.rows) for fold in folds)
    for half in parts:
        of = {}
        for request, user, time in zip(half.request, half.table.user, half.table.time, strict=True):
            assert of.setdefault(int(request), (int(user), int(time))) == (int(user), int(time))
        pairs = half.request * 1_000 + half.table.item
        assert len(np.unique(pairs)) == len(pairs)


def test_what_a_fold_foretells_is_not_known_to_its_sources_or_its_state(setting):
    job, folds = setting
    log = job.dataset.log
    assert len(folds) == job.settings.ranking.relevance.folds
    found = set()
    for fold in folds:
        history = fold.moment.state.history
        for row, user in enumerate(fold.moment.users):
            wanted = fold.moment.wanted[row]
            assert not np.isin(wanted, history[user]).any()
            assert not fold.moment.state.seen.contains(np.array([user]), wanted[None]).any()
            found |= {(int(user), int(item)) for item in wanted}
    took = {(int(u), int(i)) for u, i in zip(log.user[log.positive], log.item[log.positive], strict=True)}
    assert found <= took
    # what somebody was shown once and took is foretold in the fold that holds it
    pairs, counts = np.unique(log.user.astype(np.int64) * 1_000 + log.item, return_counts=True)
    once = {(int(p // 1_000), int(p % 1_000)) for p in pairs[counts == 1]}
    assert took & once <= found


def test_folds_have_the_same_features_where_a_source_cannot_be_fitted_on_one(setting, monkeypatch):
    job, folds = setting
    calls, kind = [], SOURCES["item_neighbours"]
    sources = {n: folds[0].bundle.retrievers[n] for n in ("popularity", "item_neighbours")}

    def missing(self, window):
        calls.append(window)
        return "needs more" if len(calls) == 2 else None

    monkeypatch.setattr(kind, "missing", missing)
    again = crosswise(job, folds[0].bundle.spec, sources, job.dataset, random=True)
    assert [tuple(fold.bundle.retrievers) for fold in again].count(("popularity",)) == 1
    assert {fold.rows.table.names for fold in again} == {folds[0].rows.table.names}
    lacking = again[1].rows.table
    assert (lacking.values[:, lacking.names.index("z_item_neighbours")] == 0).all()
    assert len(rows_without_side(again, 0))


def test_a_part_that_foretells_nobody_is_left_out(setting):
    """Where nobody has more than two rows the third and the fourth part are empty."""
    job, folds = setting
    user = job.dataset.log.user
    order = np.argsort(user, kind="stable")
    rank = np.empty(len(user), np.int64)
    rank[order] = np.arange(len(user)) - np.searchsorted(user[order], user[order])
    short = job.dataset.log.take(np.flatnonzero(rank < 2))
    again = crosswise(job, folds[0].bundle.spec, folds[0].bundle.retrievers, job.dataset.with_log(short), random=True)
    assert len(again) == 2
