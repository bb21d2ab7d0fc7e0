"""Scores of accounts: smoothed means of their items', or a classifier of what they do, as of a moment."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.errors import DataError
from recsys_cli.safety.accounts import PRIOR_ITEMS, account_features, author_scores
from recsys_cli.safety.labels import LabelOptions
from recsys_cli.safety.models import FOLDER, SafetyModels
from recsys_cli.safety.train import train_account_classifier


@pytest.fixture(scope="module")
def dataset(tiny_dataset):
    return Dataset.open(tiny_dataset)


def test_an_author_s_score_is_drawn_towards_everybody_s_by_five_items(dataset):
    author = np.full(dataset.catalogue.n_items, 3, np.int32)
    author[0], author[1], author[2] = 0, 0, 1
    spam = np.zeros(len(author), np.float32)
    spam[[0, 1]], spam[2] = 1.0, np.nan
    catalogue = replace(dataset.catalogue, item_author=author, item_safety={"spam": spam})
    now = int(catalogue.item_created.max()) + 1
    scores = author_scores(catalogue, dataset.log, now, SafetyModels())["spam"]
    mean = 2 / (len(author) - 1)
    assert scores[0] == pytest.approx((2 + PRIOR_ITEMS * mean) / (2 + PRIOR_ITEMS))
    assert np.isnan(scores[1]) and np.isnan(scores[2])  # an unknown score only, and no item at all
    assert scores[3] == pytest.approx(PRIOR_ITEMS * mean / (len(author) - 3 + PRIOR_ITEMS))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_nothing_changes_when_the_future_is_cut_off(dataset, share):
    log, catalogue = dataset.log, dataset.catalogue
    now = int(np.quantile(log.time, share))
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    whole = account_features(catalogue, log, now, **edges)
    later = catalogue.item_created >= now
    blind = replace(
        catalogue, item_safety={k: np.where(later, np.float32(1), v) for k, v in catalogue.item_safety.items()}
    )
    cut = account_features(blind, log.window(end=now), now, **edges)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, cut[name], err_msg=name)
    one, other = (author_scores(c, log, now, SafetyModels())["nsfw"] for c in (catalogue, blind))
    np.testing.assert_array_equal(one, other)


def test_rates_count_what_came_back_per_impression(dataset):
    log = dataset.log
    features = account_features(dataset.catalogue, log, int(log.time[-1]) + 1)
    author = dataset.catalogue.item_author[log.item]
    mine = author == 2
    everybody = log.actions["hide"].mean()
    expected = (log.actions["hide"][mine].sum() + 50 * everybody) / (mine.sum() + 50)
    assert features["rate_hide"][2] == pytest.approx(expected, rel=1e-5)
    assert features["impressions"][2] == pytest.approx(np.log1p(mine.sum()))


@pytest.fixture(scope="module")
def bots(tmp_path_factory):
    """A world of 60 publishers of whom a third are bots, known by many items that people hide."""
    from recsys_cli.data.writer import write_dataset

    rng = np.random.default_rng(0)
    users, start = 80, 1_709_251_200_000_000
    bot = np.arange(users) % 3 == 0
    author = np.repeat(np.arange(60), np.where(bot[:60], 12, 4))
    items = len(author)
    shown = rng.integers(0, items, 6000)
    hide = rng.random(6000) < np.where(bot[author[shown]], 0.3, 0.02)

    def when(values):
        return pl.Series(values.astype(np.int64)).cast(pl.Datetime("us", "UTC"))

    tables = {
        "users": pl.DataFrame({"user_id": np.arange(users), "is_bot": bot}),
        "items": pl.DataFrame(
            {"item_id": np.arange(items), "author_id": author, "created_at": when(start + np.arange(items) * 10**9)}
        ),
        "impressions": pl.DataFrame(
            {
                "user_id": rng.integers(60, users, 6000), "item_id": shown,
                "timestamp": when(start + 10**12 + np.arange(6000) * 10**7), "click": ~hide, "hide": hide,
            }
        ),
    }
    path = tmp_path_factory.mktemp("bots") / "dataset"
    write_dataset(path, "bots", tables, {"click": "positive", "hide": "negative"}, authors_are_users=True)
    return path


def test_a_classifier_of_accounts_learns_what_marks_them_and_serves_alike(bots, tmp_path):
    options = LabelOptions(label="is_bot")
    done = train_account_classifier(tmp_path, "spam", options, bots, test_share=0.3, seed=1)
    assert done["metrics"]["test"]["roc_auc"] > 0.95
    assert done["labels"]["left_out"] == {"accounts without items": 20}
    models = SafetyModels.load(tmp_path / FOLDER)
    data = Dataset.open(bots)
    now = int(data.log.time[-1]) + 1
    scores = author_scores(data.catalogue, data.log, now, models)["spam"]
    assert np.isnan(scores[60:]).all()
    bot = data.users["is_bot"].to_numpy()[:60]
    assert scores[:60][bot].min() > scores[:60][~bot].max() - 0.3
    # the graph that is served against the weights, by hand
    features = account_features(data.catalogue, data.log, now)
    table = np.stack([features[name] for name in models.accounts["spam"].manifest["features"]], axis=1)
    from recsys_cli.safety.accounts import fit_account_classifier

    model, _ = fit_account_classifier(features, np.arange(60), bot, seed=1)
    model.export(tmp_path)
    served = replace(models.accounts["spam"], folder=tmp_path)
    np.testing.assert_allclose(served.probabilities(table), model.probabilities(table), atol=1e-5)


def test_what_happens_in_the_test_window_teaches_the_classifier_nothing(bots, tmp_path):
    from recsys_cli.data.writer import write_dataset

    options, data = LabelOptions(label="is_bot"), Dataset.open(bots)
    done = train_account_classifier(tmp_path / "a", "spam", options, bots, seed=1)
    start = done["as_of"]["moment"]
    assert start == make_split(WindowsConfig(), data, seed=1).windows.test_start < data.log.time[-1]
    assert done["as_of"]["rows"] == np.searchsorted(data.log.time, start)
    # the same people, and other things done in the test window
    tables = {n: data.table(n) for n in ("users", "items")}
    late = pl.col("timestamp").cast(pl.Int64) >= start
    rows = data.table("impressions").with_columns(
        click=pl.when(late).then(~pl.col("click")).otherwise("click"),
        hide=pl.when(late).then(~pl.col("hide")).otherwise("hide"),
    )
    other = tmp_path / "other"
    write_dataset(
        other, "bots", tables | {"impressions": rows}, {"click": "positive", "hide": "negative"},
        authors_are_users=True,
    )
    again = train_account_classifier(tmp_path / "b", "spam", options, other, seed=1)
    assert again["choices"] == done["choices"] and again["metrics"] == done["metrics"]


def test_accounts_need_enough_of_either_class(bots, tmp_path):
    with pytest.raises(DataError):
        train_account_classifier(tmp_path, "spam", LabelOptions(label="is_bot", positive=("maybe",)), bots)


def test_an_empty_log_gives_features_all_the_same(dataset):
    empty = dataset.log.take(slice(0, 0))
    assert isinstance(empty, Log)
    features = account_features(dataset.catalogue, empty, int(dataset.catalogue.item_created.max()) + 1)
    assert np.isfinite(features["rate_hide"]).all() and (features["impressions"] == 0).all()
