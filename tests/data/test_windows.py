"""Windows in order, by moments, dates, users, people or as published: which rows measure, and who knows what."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys_cli.data.log import Log
from recsys_cli.data.schema import PARTS
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split, rolling_splits, split_again
from recsys_cli.data.windows.windows import Windows
from recsys_cli.errors import ArtifactError, ConfigError, DataError

SECOND = 1_000_000
QUARTERS = {"test_share": 0.25, "validation_share": 0.25, "history_share": 0.25}


def dataset(times, users=None, items=None, *, splits=None, has_time=True, has_order=True, part=None, created=0):
    """A dataset as far as windows read it; rows are given in the order of time."""
    n = len(times)
    users = np.zeros(n, np.int32) if users is None else np.array(users, np.int32)
    items = np.arange(n, dtype=np.int32) if items is None else np.array(items, np.int32)
    n_users, n_items = int(users.max(initial=-1)) + 1, int(items.max(initial=-1)) + 1
    log = Log(users, items, np.array(times, np.int64), {"click": np.ones(n, bool)}, ("click",), ())
    if part is not None:
        log = Log(**{**vars(log), "part": np.array([PARTS.index(p) for p in part], np.int8)})
    return SimpleNamespace(
        path="data/x",
        log=log,
        manifest=SimpleNamespace(splits=splits, has_time=has_time, has_order=has_order),
        catalogue=SimpleNamespace(
            n_users=n_users, n_items=n_items,
            item_created=np.full(n_items, created), user_created=np.zeros(n_users, np.int64),
        ),
        user_ids=Vocabulary(np.arange(n_users)),
        item_ids=Vocabulary(np.arange(n_items)),
        edges=lambda table: None,
    )


def windows_of(split):
    """Window (0 history, 1 ranker's, 2 validation, 3 test) of each row of a split's log."""
    w = split.windows
    return np.searchsorted([w.history_end, w.validation_start, w.test_start], split.log.time, "right")


def by_user(split, user):
    """Items of a user as lists, one a window."""
    window = windows_of(split)
    return [split.log.item[(split.log.user == user) & (window == code)].tolist() for code in range(4)]


# --- in time ----------------------------------------------------------------------------------------------


def test_shares_are_of_the_impressions_in_time_order():
    data = dataset(np.arange(100) * SECOND)
    config = WindowsConfig(test_share=0.2, validation_share=0.1, history_share=0.4)
    split = make_split(config, data, seed=0)
    w = split.windows
    assert [w.start, w.history_end, w.validation_start, w.test_start, w.end] == [
        0,
        40 * SECOND,
        70 * SECOND,
        80 * SECOND,
        99 * SECOND + 1,
    ]
    assert split.kind == "time" and not split.places and split.log is data.log and w.made_by is None


def test_dates_win_over_shares():
    data = dataset(np.arange(100) * SECOND)
    config = WindowsConfig(test_start="1970-01-01T00:01:30", validation_start="1970-01-01T00:01:20")
    w = make_split(config, data, seed=0).windows
    assert w.test_start == 90 * SECOND and w.validation_start == 80 * SECOND


def test_given_parts_that_follow_in_time_are_cuts_in_time():
    spans = {"train": (0, 50 * SECOND), "valid": (50 * SECOND, 60 * SECOND), "test": (60 * SECOND, 100 * SECOND)}
    data = dataset(np.arange(100) * SECOND, splits=spans)
    split = make_split(WindowsConfig(), data, seed=0)
    w = split.windows
    assert split.kind == "given" and split.log is data.log and not split.places
    assert (w.history_end, w.validation_start, w.test_start) == (24 * SECOND, 50 * SECOND, 60 * SECOND)


def test_final_holds_nothing_out():
    w = make_split(WindowsConfig(), dataset(np.arange(100) * SECOND), seed=0, final=True).windows
    assert w.test_start == w.end
    assert w.validation_start < w.end


def test_dates_out_of_order_are_refused():
    config = WindowsConfig(test_start="1970-01-01T00:00:50", validation_start="1970-01-01T00:01:00")
    with pytest.raises(ConfigError, match="not in this order"):
        make_split(config, dataset(np.arange(100) * SECOND), seed=0)


@pytest.mark.parametrize("times", [[5], [5] * 50])
def test_data_of_one_moment_cannot_be_cut_in_time(times):
    with pytest.raises(DataError, match="holds no impression"):
        make_split(WindowsConfig(), dataset(times), seed=0)


def test_an_empty_log_is_refused():
    with pytest.raises(DataError, match="no impressions"):
        make_split(WindowsConfig(), dataset([]), seed=0)


def test_rolling_cuts_follow_one_another_and_know_only_what_came_before():
    data = dataset(np.arange(100) * SECOND)
    config = WindowsConfig(split="rolling", test_share=0.3, cuts=3, history_share=0.35, validation_share=0.07)
    splits = rolling_splits(config, data)
    assert [(s.windows.test_start // SECOND, len(s.log)) for s in splits] == [(70, 80), (80, 90), (90, 100)]
    for s in splits:
        before = s.windows.test_start / SECOND
        assert s.windows.history_end == before / 2 * SECOND
        assert s.windows.validation_start == pytest.approx(0.9 * before * SECOND, abs=SECOND)
        assert len(s.log.window(s.windows.test_start, s.windows.end)) == 10
    assert make_split(config, data, seed=0).windows == splits[-1].windows
    second = make_split(config.model_copy(update={"cut": 2}), data, seed=0).windows
    assert (second.test_start, second.cut) == (splits[1].windows.test_start, 1)
    assert split_again(splits[1].windows, data).windows == splits[1].windows


# --- within users -----------------------------------------------------------------------------------------


def test_the_last_rows_of_each_user_measure():
    data = dataset(np.arange(12) * SECOND, [0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1], range(12), has_time=False)
    split = make_split(WindowsConfig(**QUARTERS), data, seed=0)
    assert split.kind == "last" and split.places and split.held_out is None
    assert by_user(split, 0) == [[0, 2], [3, 5], [6, 7], [9, 10]]
    assert by_user(split, 1) == [[1], [4], [8], [11]]
    assert split.messages[0].startswith("windows: last, since rows have an order but no time")
    # the windows of all users begin together, one second a place
    assert split.log.time[split.log.user == 0].tolist() == [SECOND * (12 + i) for i in range(8)]
    assert split.log.time[split.log.user == 1].tolist() == [SECOND * (12 + i) for i in (0, 2, 4, 6)]


def test_numbers_of_rows_instead_of_shares():
    data = dataset(np.arange(12) * SECOND, [0] * 8 + [1, 1, 2, 2])
    split = make_split(
        WindowsConfig(split="last", test_rows=1, validation_rows=2, history_share=0.4), data, seed=0
    )
    assert by_user(split, 0) == [[0, 1, 2], [3, 4], [5, 6], [7]]
    # everybody keeps a row of history
    assert by_user(split, 1) == [[8], [], [], [9]]


def test_short_users_give_together_what_the_share_is():
    users = np.repeat(np.arange(50), 2)
    split = make_split(WindowsConfig(split="last"), dataset(np.arange(100) * SECOND, users), seed=0)
    assert np.bincount(windows_of(split)).tolist()[2:] == [10, 20]


def test_a_fifth_is_cut_off_where_a_user_has_enough_rows():
    users = np.repeat([0, 1], [9, 20])
    split = make_split(WindowsConfig(split="last"), dataset(np.arange(29) * SECOND, users), seed=0)
    assert [len(by_user(split, u)[3]) for u in (0, 1)] == [1, 4]


def test_pairs_without_time_or_order_are_drawn_by_the_seed():
    data = dataset(np.arange(400) * SECOND, np.arange(400) % 8, has_time=False, has_order=False)
    one, same, other = (make_split(WindowsConfig(), data, seed=s) for s in (1, 1, 2))
    assert one.kind == "user_random" and "neither time nor an order" in one.messages[0]
    assert one.log.item.tolist() == same.log.item.tolist() and one.windows == same.windows
    assert one.log.item.tolist() != other.log.item.tolist()
    assert {len(by_user(one, u)[3]) for u in range(8)} == {10}


def test_what_was_shown_together_stays_together_and_nothing_is_unpublished():
    data = dataset([0, 0, 7, 7, 9, 9, 11, 11], created=10**12)
    split = make_split(WindowsConfig(split="last", **QUARTERS), data, seed=0)
    assert np.diff(split.log.time).tolist() == [0, SECOND, 0, SECOND, 0, SECOND, 0]
    assert (data.catalogue.item_created < split.windows.start).all()


# --- people -----------------------------------------------------------------------------------------------


def test_held_out_people_are_known_by_their_first_rows_and_fitted_on_by_nobody():
    users = np.repeat(np.arange(20), 10)
    data = dataset(np.arange(200) * SECOND, users)
    split = make_split(WindowsConfig(split="users"), data, seed=3)
    window, user = windows_of(split), split.log.user
    measured, validated = np.unique(user[window == 3]), np.unique(user[window == 2])
    assert (len(measured), len(validated)) == (4, 2) and not set(measured) & set(validated)
    assert np.flatnonzero(split.held_out).tolist() == sorted([*measured, *validated])
    for u in measured:
        history, ranker, _, test = by_user(split, u)
        assert (history, ranker, test) == (list(range(10 * u, 10 * u + 8)), [], [10 * u + 8, 10 * u + 9])
    fitted = split.fitting(split.log)
    assert not split.held_out[fitted.user].any() and len(fitted) == 140
    assert set(fitted.user[windows_of(split)[~split.held_out[user]] == 1]) == set(np.flatnonzero(~split.held_out))


# --- as published -----------------------------------------------------------------------------------------


def published(**more):
    parts = ["train"] * 6 + ["test"] * 2
    spans = {"train": (0, 6 * SECOND), "test": (6 * SECOND, 8 * SECOND)}
    more = {"has_time": False, "has_order": True, "part": parts, "splits": spans, **more}
    return dataset(np.arange(8) * SECOND, [0, 0, 0, 0, 1, 1, 0, 1], [0, 1, 2, 3, 1, 0, 0, 2], **more)


def test_published_parts_without_time():
    split = make_split(WindowsConfig(**QUARTERS), published(), seed=0)
    assert split.kind == "given" and split.places
    assert (by_user(split, 0)[3], by_user(split, 1)[3]) == ([0], [2])
    assert by_user(split, 0)[:3] == [[0], [1, 2], [3]]


def test_published_parts_of_datasets_that_keep_only_their_spans():
    old, new = (make_split(WindowsConfig(**QUARTERS), published(**p), seed=0) for p in ({"part": None}, {}))
    assert old.log.item.tolist() == new.log.item.tolist() and old.windows == new.windows


def test_published_parts_may_lie_mixed_in_time():
    parts = ["train", "test"] * 10 + ["train"] * 20
    spans = {"train": (0, 40 * SECOND), "test": (SECOND, 20 * SECOND)}
    data = dataset(np.arange(40) * SECOND, np.arange(40) // 2 % 2, part=parts, splits=spans)
    split = make_split(WindowsConfig(), data, seed=0)
    assert sorted(split.log.item[windows_of(split) == 3]) == list(range(1, 20, 2))
    with pytest.raises(ConfigError, match="do not follow one another"):
        make_split(WindowsConfig(split="given", test_start="1970-01-01T00:00:30"), data, seed=0)


def test_pairs_in_train_and_in_test_are_counted_named_and_refused_as_set():
    split = make_split(WindowsConfig(**QUARTERS), published(), seed=0)
    assert "1 of 2 pairs of the test part stand in train too (user 0, item 0): kept" in split.messages
    with pytest.raises(DataError, match=r"1 of 2 pairs .* \(user 0, item 0\)"):
        make_split(WindowsConfig(**QUARTERS, overlap="refuse"), published(), seed=0)


# --- every kind -------------------------------------------------------------------------------------------

KINDS = st.sampled_from(["time", "last", "user_random", "users"])


@settings(max_examples=60, deadline=None)
@given(kind=KINDS, users=st.lists(st.integers(0, 6), min_size=30, max_size=90), seed=st.integers(0, 99))
def test_every_row_is_in_one_window_and_users_keep_their_order(kind, users, seed):
    times = np.sort(np.random.default_rng(seed).integers(0, 60, len(users))) * SECOND
    order = np.lexsort((users, times))
    data = dataset(times, np.array(users)[order])
    try:
        split = make_split(WindowsConfig(split=kind), data, seed=seed)
    except DataError as error:
        assert "holds no impression" in str(error)
        return
    again = make_split(WindowsConfig(split=kind), data, seed=seed)
    assert again.windows == split.windows and again.log.item.tolist() == split.log.item.tolist()
    assert split_again(split.windows, data).log.item.tolist() == split.log.item.tolist()
    assert sorted(split.log.item) == sorted(data.log.item) and (np.diff(split.log.time) >= 0).all()
    assert split.windows.start <= split.log.time[0] and split.log.time[-1] < split.windows.end
    if split.order is not None:
        assert data.log.item[split.order].tolist() == split.log.item.tolist()
    window = windows_of(split)
    for user in set(users):
        mine = split.log.user == user
        if kind == "user_random":
            for code in range(4):
                assert (np.diff(split.log.item[mine & (window == code)]) > 0).all()
        else:
            assert (np.diff(split.log.item[mine]) > 0).all()  # items are numbered in the order of the log
    before = split.log.window(end=split.windows.test_start)
    assert sorted(before.item) == sorted(split.log.item[window < 3])


# --- what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"split": "time"}, {"split": "rolling"}, {"test_start": "2020-01-01"}])
def test_no_cuts_in_time_without_time(config):
    with pytest.raises(ConfigError, match="has no time"):
        make_split(WindowsConfig(**config), dataset(np.arange(50) * SECOND, has_time=False), seed=0)


def test_no_published_parts_where_there_are_none():
    with pytest.raises(ConfigError, match="was not published in train and test parts"):
        make_split(WindowsConfig(split="given"), dataset(np.arange(50) * SECOND), seed=0)


@pytest.mark.parametrize(
    "settings",
    [{"split": "last", "test_start": "2020-01-01"}, {"split": "time", "test_rows": 1}, {"test_share": 0.6},
     {"split": "rolling", "cut": 4}, {"cut": 1}],
)
def test_settings_that_contradict_are_refused(settings):
    with pytest.raises(ValidationError):
        WindowsConfig(**settings)


def test_users_with_too_few_rows_leave_a_window_empty():
    with pytest.raises(DataError, match="the ranker window holds no impression"):
        make_split(WindowsConfig(split="last"), dataset(np.arange(3) * SECOND, [0, 1, 2]), seed=0)


def test_strangers_in_the_test_window_are_told():
    users = [0] * 40 + [1] * 30 + [2, 3, 4, 5, 6] * 6
    data = dataset(np.arange(100) * SECOND, users)
    messages = make_split(WindowsConfig(), data, seed=0).messages
    assert not any("most test users" in m for m in messages) and "20 of 20 items" in messages[-1]
    data = dataset(np.arange(100) * SECOND, [0] * 80 + [1, 2, 3, 0] * 5)
    assert any(m.startswith("most test users, 3 of 4,") for m in make_split(WindowsConfig(), data, seed=0).messages)


def test_manifests_of_before_kinds_were_kept_are_cuts_in_time():
    old = Windows.model_validate({"start": 0, "history_end": 1, "validation_start": 2, "test_start": 3, "end": 4})
    data = dataset(np.arange(5))
    assert split_again(old, data).log is data.log and old.kind == "time"


def test_a_split_that_other_rows_would_make_is_refused():
    made = make_split(WindowsConfig(split="last"), dataset(np.arange(50) * SECOND), seed=0).windows
    with pytest.raises(ArtifactError, match="cannot be made again"):
        split_again(made, dataset(np.arange(60) * SECOND))
