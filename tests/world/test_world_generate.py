from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from recsys_cli.data.dataset import Dataset, read_manifest, table_files
from recsys_cli.data.schema import DAY
from recsys_cli.errors import ConfigError, RecsysError
from recsys_cli.world.config import ACTIONS, WorldConfig
from recsys_cli.world.generate import generate
from recsys_cli.world.model import Model
from recsys_cli.world.words import WORDS_PER_TOPIC, topic_names, topic_words


def rows_of(path):
    return pl.concat([pl.read_parquet(f) for f in table_files(path, "impressions")])


@pytest.mark.parametrize(("shards", "threads"), [(1, 1), (4, 2), (3, 5)])
def test_content_depends_neither_on_shards_nor_on_threads(small_world, small_config, tmp_path, shards, threads):
    config = small_config.model_copy(update={"shards": shards})
    manifest = generate(config, 7, tmp_path / "again", threads=threads).manifest
    assert manifest.digest == read_manifest(small_world).digest
    files = table_files(tmp_path / "again", "impressions")
    assert len(files) == shards
    key = ["user_id", "item_id"]
    assert rows_of(tmp_path / "again").sort(key).equals(rows_of(small_world).sort(key))


def test_another_seed_is_another_world(small_world, small_config, tmp_path):
    other = generate(small_config, 8, tmp_path / "other").manifest
    this = read_manifest(small_world)
    assert all(other.tables[name].digest != info.digest for name, info in this.tables.items())


def test_default_world_has_the_promised_size_and_rates(default_world):
    path, (manifest, interactions) = default_world
    rows = manifest.tables["impressions"].rows
    assert (manifest.tables["users"].rows, manifest.tables["items"].rows) == (1000, 10_000)
    assert rows >= 200_000
    assert interactions >= 50_000
    frame = rows_of(path)
    positive = pl.any_horizontal([a for a, i in manifest.actions.items() if i.polarity == "positive"])
    assert frame.select(positive.sum()).item() == interactions
    bounds = {
        "click": (0.2, 0.3), "like": (0.04, 0.08), "repost": (0.01, 0.02), "reply": (0.006, 0.015),
        "follow": (0.003, 0.007), "share": (0.005, 0.01), "hide": (0.001, 0.006), "mute": (0.0005, 0.005),
        "block": (0.0005, 0.005), "report": (0.0005, 0.005),
    }
    for action, (low, high) in bounds.items():
        assert low < frame[action].mean() < high, action
        assert manifest.actions[action].count == frame[action].sum()
    assert manifest.time_span == (frame["timestamp"].cast(int).min(), frame["timestamp"].cast(int).max())


def test_truth_is_aligned_with_the_log_and_explains_it(default_world):
    path, _ = default_world
    log, truth = rows_of(path), pl.read_parquet(path / "truth" / "responses.parquet")
    assert log.height == truth.height
    for action in ACTIONS:
        # each count is within five standard deviations of what its probabilities say
        p = truth[f"p_{action}"].to_numpy().astype(np.float64)
        assert abs(log[action].sum() - p.sum()) < 5 * np.sqrt((p * (1 - p)).sum()), action
    assert roc_auc_score(log["click"], truth["p_click"]) > 0.8
    assert roc_auc_score(log["like"], truth["p_like"]) > 0.8
    assert log["dwell_seconds"].mean() == pytest.approx(truth["dwell_mean"].mean(), rel=0.03)


def test_log_respects_who_may_be_shown_what(default_world):
    path, _ = default_world
    dataset = Dataset.open(path)
    log, catalogue, blocks = dataset.log, dataset.catalogue, dataset.edges("blocks")
    author = catalogue.item_author[log.item]
    pair = log.user.astype(np.int64) * catalogue.n_items + log.item
    assert len(np.unique(pair)) == len(pair), "an item is shown to a user once"
    assert (author != log.user).all(), "nobody is shown their own items"
    people = catalogue.n_authors
    avoided = blocks["from"].astype(np.int64) * people + blocks["to"]
    assert len(avoided) > 100
    assert not np.isin(log.user.astype(np.int64) * people + author, avoided).any()
    age = log.time - catalogue.item_created[log.item]
    assert age.min() > 0
    assert age.max() <= WorldConfig().logging.eligible_days * DAY
    assert (log.time >= catalogue.user_created[log.user] - 1000).all()
    assert ((log.propensity > 0) & (log.propensity <= 1)).all()
    order = np.lexsort((log.position, log.request))
    same = log.request[order][1:] == log.request[order][:-1]
    step = np.diff(log.position[order])
    assert (step[same] == 1).all() and (log.position[order][1:][~same] == 0).all(), "positions are 0, 1, 2, …"


def test_people_come_by_day_and_by_week(default_world):
    path, _ = default_world
    items = pl.read_parquet(path / "items.parquet")
    hours = items.group_by(pl.col("created_at").dt.hour()).len().sort("created_at")["len"].to_numpy()
    assert hours.max() > 2 * hours.min()
    log = rows_of(path)
    week = log.group_by(pl.col("timestamp").dt.weekday()).agg(
        pl.len() / pl.col("timestamp").dt.date().n_unique()
    ).sort("timestamp")["len"].to_numpy()
    assert week[5:].mean() > week[:5].mean()
    inside = items["created_at"].dt.date().is_between(WorldConfig().start, log["timestamp"].dt.date().max())
    assert inside.mean() > 0.7
    assert inside.mean() < 1


def test_follows_attach_to_the_followed_and_stay_among_the_like_minded():
    config = WorldConfig(users=2000)
    model = Model.create(config, 3)
    edges, people = model.graph.follows, model.people
    degree = np.bincount(edges.target, minlength=2000)
    assert degree.max() > 12 * degree.mean()

    def alike(a, b):
        x, y = people.affinity[a], people.affinity[b]
        return ((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).mean()

    shuffled = np.random.default_rng(0).permutation(edges.target)
    assert alike(edges.source, edges.target) > 1.8 * alike(edges.source, shuffled)
    keys = edges.source.astype(np.int64) * 2000 + edges.target
    back = edges.target.astype(np.int64) * 2000 + edges.source
    mutual = np.isin(back, keys)
    assert 0.2 < mutual.mean() < 0.8
    assert model.graph.tie[mutual].mean() > model.graph.tie[~mutual].mean() + 0.3
    assert (edges.source != edges.target).all()
    assert len(np.unique(keys)) == len(keys)


def test_interests_are_sparse_and_lie_in_communities():
    model = Model.create(WorldConfig(), 3)
    strong = (model.people.affinity > 0.3).sum(axis=1)
    assert 1 <= np.median(strong) <= 10
    assert model.people.affinity.shape == (1000, 150)
    count = (model.people.communities >= 0).sum(axis=1)
    assert set(count.tolist()) == {1, 2, 3}


def test_text_shows_the_topics_the_language_and_the_harm(default_world):
    path, _ = default_world
    items = pl.read_parquet(path / "items.parquet")
    names, words = topic_names(150), topic_words(150)
    of_topic = {t: set(words[i * WORDS_PER_TOPIC : (i + 1) * WORDS_PER_TOPIC]) for i, t in enumerate(names)}
    told = [any(w in of_topic[t[0]] for w in text.split()) for text, t in items.select("text", "topics").rows()]
    assert np.mean(told) > 0.95
    assert items["text"].str.contains("#").mean() > 0.3
    assert items["text"].str.contains("@user").mean() > 0.05
    tagged = items.filter(pl.col("text").str.contains("#"))
    for text, topics in tagged.select("text", "topics").rows():
        assert {w[1:] for w in text.split() if w[0] == "#"} <= set(topics)
    rude = items["text"].str.contains("idiot|stupid|pathetic|disgusting")
    assert items.filter(rude)["toxicity"].mean() > 3 * items.filter(~rude)["toxicity"].mean()
    english = items["text"].str.contains(r"\b(the|with|about|people)\b")
    assert english.filter(items["language"] == "en").mean() > 0.7
    assert english.filter(items["language"] == "fr").mean() < 0.05


def test_labels_are_noisy_readings_of_hidden_harm_which_lies_in_the_author():
    config = WorldConfig(items=20_000, users=2000)
    model = Model.create(config, 1)
    from recsys_cli.world.content import items_table
    from recsys_cli.world.people import HARMS

    table = items_table(config, model.content, model.people, 1)
    for j, name in enumerate(HARMS):
        label, truth = table[name].to_numpy(), model.content.harms[:, j]
        assert label.min() >= 0
        assert label.max() <= 1
        assert 0.6 < np.corrcoef(label, truth)[0, 1] < 0.99
        inclined = model.people.harms[model.content.author, j] > 0.5
        assert truth[inclined].mean() > 3 * truth[~inclined].mean()


def test_without_truth_the_dataset_is_the_same(small_world, small_config, tmp_path):
    bare = generate(small_config.model_copy(update={"truth": False}), 7, tmp_path / "bare").manifest
    assert not (tmp_path / "bare" / "truth").exists()
    assert bare.digest == read_manifest(small_world).digest


def test_dataset_never_reads_the_truth(small_world, tmp_path):
    import shutil

    shutil.copytree(small_world, tmp_path / "bare", ignore=shutil.ignore_patterns("truth"))
    dataset = Dataset.open(tmp_path / "bare")
    assert len(dataset.log) == dataset.manifest.tables["impressions"].rows
    assert dataset.catalogue.n_topics > 50


@pytest.mark.parametrize("sizes", [
    {"users": 1}, {"items": 1}, {"users": 2, "items": 3}, {"days": 1}, {"topics": 1, "communities": 1},
    {"users": 5, "shards": 40}, {"users": 20, "author_share": 0.0001, "new_user_share": 1.0}, {"prelude_days": 0},
    {"horizon_days": 0}, {"users": 3, "impressions_per_user": 0.001},
])
def test_degenerate_worlds_work_or_are_refused(tmp_path, sizes):
    config = WorldConfig(**{"users": 30, "items": 200, "days": 4, "impressions_per_user": 40, **sizes})
    try:
        manifest = generate(config, 1, tmp_path / "w").manifest
    except ConfigError as error:
        assert "shows nobody anything" in error.message
        assert not (tmp_path / "w").exists()
    else:
        dataset = Dataset.open(tmp_path / "w")
        assert len(dataset.log) == manifest.tables["impressions"].rows > 0


def test_failure_on_the_way_leaves_the_old_dataset(small_world, small_config, tmp_path, monkeypatch):
    import shutil

    from recsys_cli.world import generate as module

    shutil.copytree(small_world, tmp_path / "data")
    before = read_manifest(tmp_path / "data").digest

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._Shard, "flush", full)
    with pytest.raises(RecsysError, match="No space left"):
        generate(small_config, 9, tmp_path / "data")
    assert read_manifest(tmp_path / "data").digest == before
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
