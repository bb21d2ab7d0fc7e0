"""On data of each kind in which the right order of the lists is known, `train` makes that choice, and the list that is
then served is no worse than its best part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import planted_data as planted
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.windows.split import split_again
from recsys_cli.engine import RecommendationEngine
from recsys_cli.pipeline.config import OrderConfig
from recsys_cli.pipeline.order import HEAVY, LIGHT, OF_SOURCES, RANKERS, RELEVANCE
from recsys_cli.pipeline.weighted_fusion import weighted
from recsys_cli.settings import Settings
from recsys_cli.training import train
from recsys_cli.training.sources import OF_ORDER

pytestmark = pytest.mark.slow

COUNTED = ("popularity", "trending")
PAIRS = {
    "name": "pairs",
    "impressions": {
        "files": "pairs.csv", "columns": {"user_id": "user", "item_id": "item"}, "actions": {"click": {"value": True}},
    },
}


@dataclass
class Trained:
    """A training with default settings, asked as of the beginning of its test window."""

    account: dict
    """what orders the lists and why"""
    sources: dict
    engine: RecommendationEngine
    users: np.ndarray
    """int32[U] people who turned to something in the test window that could have been listed"""
    wanted: list[set]
    artifacts: Path

    def ndcg(self, items: np.ndarray) -> np.ndarray:
        """float64[U] NDCG@10 of lists int32[U, ≥ 10], by the definition."""
        discount = 1 / np.log2(np.arange(2, 12))
        hits = np.array([[i in w for i in row] for row, w in zip(items[:, :10].tolist(), self.wanted, strict=True)])
        return hits @ discount[: hits.shape[1]] / [discount[: min(len(w), 10)].sum() for w in self.wanted]

    def served(self, order: str | None = None) -> np.ndarray:
        """Slates as they are served, or with another order."""
        engine = self.engine
        if order is not None:
            named = {"order": OrderConfig(known=order, new=order)}
            engine = engine.with_pipeline(engine.pipeline.model_copy(update=named))
        return engine.slates(self.users).items

    def alone(self, name: str) -> np.ndarray:
        return self.engine.bundle.retrievers[name].retrieve(self.engine.state, self.users, 10)[0]


def trained(folder: Path, dataset: Dataset, **more) -> Trained:
    """more: sections of the settings."""
    settings = Settings.model_validate({
        "paths": {"data": str(dataset.path), "artifacts": str(folder / "artifacts")}, "threads": 1,
        "tuning": {"budget_seconds": 0}, **more,
    })
    run = train(settings)
    engine = RecommendationEngine.load(settings.paths.artifacts, measured=True)
    split = split_again(run.manifest.windows, dataset)
    w = split.windows
    past = engine.as_of(split.log, w.test_start)
    later, before = split.log.window(w.test_start, w.end), split.log.window(end=w.test_start)
    shown = set(zip(before.user.tolist(), before.item.tolist(), strict=True))
    wanted: dict[int, set] = {}
    for user, item in zip(later.user[later.positive].tolist(), later.item[later.positive].tolist(), strict=True):
        if (user, item) not in shown:
            wanted.setdefault(user, set()).add(item)
    users = np.array(sorted(wanted), np.int32)
    metrics = run.manifest.metrics
    return Trained(
        metrics["order"], metrics["sources"], past, users, [wanted[u] for u in users.tolist()],
        Path(settings.paths.artifacts),
    )


def assert_no_worse_than_its_best_part(run: Trained) -> None:
    """Within two standard errors of the paired difference, on people of whom training knew nothing of the test."""
    mine = run.ndcg(run.served())
    parts = {name: run.ndcg(run.alone(name)) for name in run.engine.bundle.proposing}
    best = max(parts, key=lambda name: parts[name].mean())
    gap = mine - parts[best]
    assert gap.mean() >= -2 * gap.std() / np.sqrt(len(gap)), (best, parts[best].mean(), mine.mean())


def value(account: dict, name: str, side: str = "known") -> float:
    return account[side]["figures"][name]["value"]


def best_of(account: dict, names, side: str = "known") -> float:
    return max(f["value"] for name, f in account[side]["figures"].items() if name in names)


# --- pairs without order ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> tuple[Trained, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("pairs")
    table = planted.communities(0)
    table.write_csv(folder / "pairs.csv")
    import_dataset(Mapping.model_validate(PAIRS), folder, folder / "data")
    return trained(folder, Dataset.open(folder / "data")), table


def test_of_pairs_in_two_communities_what_is_taken_together_beats_counting(pairs):
    run, _ = pairs
    row = run.account["known"]
    chosen = row["chosen"]
    assert chosen not in COUNTED and row["users"] == 300
    assert value(run.account, chosen) > 1.3 * best_of(run.account, COUNTED)
    assert set(COUNTED) < set(row["figures"]) and not set(OF_ORDER) & set(run.sources)
    assert_no_worse_than_its_best_part(run)


def test_lists_of_pairs_hold_the_community_of_whom_they_are_for(pairs):
    run, _ = pairs
    ids = np.array([int(i[1:]) for i in run.engine.bundle.item_ids.external(np.arange(200))])
    user = np.array(run.engine.bundle.user_ids.external(run.users), int)
    own = ids[run.served()] // 100 == user[:, None] % 2
    assert own.mean() > 0.9


def test_what_is_served_learned_from_every_row_and_what_is_measured_from_those_before_the_test_window(tmp_path):
    planted.communities(0).write_csv(tmp_path / "pairs.csv")
    import_dataset(Mapping.model_validate(PAIRS), tmp_path, tmp_path / "data")
    settings = {
        "paths": {"data": str(tmp_path / "data"), "artifacts": str(tmp_path / "artifacts")}, "threads": 1,
        "tuning": {"budget_seconds": 0}, "ranking": {"choose": "relevance"},
    }
    learned = train(Settings.model_validate(settings)).manifest.metrics["requests"]
    log = Dataset.open(tmp_path / "data").log
    # everybody has several rows, so that each of them is foretold in one part
    assert learned["served"]["wanted"] == len(log)
    assert 0.75 * len(log) < learned["all"]["wanted"] < 0.85 * len(log)


def test_the_weights_of_the_fusion_are_kept_with_the_run_and_followed(pairs):
    run, _ = pairs
    bundle = run.engine.bundle
    assert sum(bundle.fusion.values()) == pytest.approx(1) and set(bundle.fusion) <= set(bundle.proposing)
    named = {"order": OrderConfig(known="weighted_fusion")}
    engine = run.engine.with_pipeline(run.engine.pipeline.model_copy(update=named))
    batch = engine.slates(run.users[:20], keep_sourced=True)
    found = batch.hydrated
    by_hand = weighted(
        {name: found.scores[f"z_{name}"] for name in bundle.fusion}, bundle.fusion, found.items.shape
    )
    by_hand[~found.filled] = -np.inf
    best = np.take_along_axis(found.items, np.argsort(-by_hand, axis=1, kind="stable"), axis=1)[:, :10]
    np.testing.assert_array_equal(batch.items, best)


# --- ratings ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rated(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("ratings")
    frames = {"impressions": planted.ratings(0)}
    return trained(folder, Dataset.from_frames(folder / "data", frames, {"like": "positive"}))


def test_of_ratings_neither_the_most_rated_nor_the_best_liked_alone_leads(rated):
    account = rated.account
    chosen = account["known"]["chosen"]
    assert value(account, chosen) > 1.3 * best_of(account, COUNTED)
    # P(like | rated) says nothing of who comes upon an item
    assert chosen != HEAVY and best_of(account, ("heavy × relevance^1", "heavy × relevance^2")) > value(account, HEAVY)
    assert_no_worse_than_its_best_part(rated)


# --- impressions of a biased policy -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[Trained, planted.Policy]:
    folder = tmp_path_factory.mktemp("policy")
    truth = planted.biased_policy(0)
    dataset = Dataset.from_frames(folder / "data", {"impressions": truth.impressions}, {"click": "positive"})
    return trained(folder, dataset), truth


def test_where_propensities_are_logged_the_order_is_right_that_the_log_likes_least(shown):
    run, truth = shown
    assert "inverse propensity" in run.account["criterion"]
    assert run.account["known"]["chosen"] == HEAVY
    bundle = run.engine.bundle
    number = np.array([int(i[1:]) for i in bundle.item_ids.external(np.arange(len(bundle.item_ids)))])
    people = np.array(bundle.user_ids.external(run.users), int)

    def clicks(items: np.ndarray) -> float:
        """of ten, had they been shown"""
        return float(truth.clicks(people, number[items]).sum(axis=1).mean())

    mine = run.served()
    parts = {name: run.alone(name) for name in bundle.proposing}
    assert clicks(mine) > 1.2 * max(clicks(items) for items in parts.values())
    # counted by the log alone, the choice would have been what the policy showed
    assert run.ndcg(mine).mean() < 0.7 * max(run.ndcg(items).mean() for items in parts.values())


# --- cold visitors ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cold(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("visitors")
    return trained(folder, Dataset.from_frames(folder / "data", planted.visitors(0), {"click": "positive"}))


def test_visitors_whom_nobody_knows_are_served_by_what_is_known_of_their_country(cold):
    row = cold.account["new"]
    assert row["users"] >= 80 and "segment_trending" in cold.sources
    assert value(cold.account, row["chosen"], "new") > 1.5 * best_of(cold.account, COUNTED, "new")
    lengths = cold.engine.state.history.lengths[cold.users]
    assert (lengths == 0).mean() > 0.95
    mine, counted = (cold.ndcg(items) for items in (cold.served(), cold.alone("popularity")))
    assert mine.mean() > 1.4 * counted.mean()
    assert_no_worse_than_its_best_part(cold)


def test_two_visitors_of_one_country_are_shown_the_same_and_of_two_countries_not(cold):
    bundle = cold.engine.bundle
    country = bundle.catalogue.user_codes["country"][cold.users]
    new = cold.engine.state.history.lengths[cold.users] == 0
    lists = cold.served()[new]
    groups = [np.unique(lists[country[new] == c], axis=0) for c in np.unique(country)]
    assert [len(g) for g in groups] == [1, 1, 1] and len(np.unique(np.concatenate(groups), axis=0)) == 3


# --- order only -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_in_sequences_what_follows_what_is_found_and_not_what_stands_together(seed, tmp_path):
    dataset = Dataset.from_frames(tmp_path / "data", {"impressions": planted.cycle(0)}, {"click": "positive"})
    run = trained(tmp_path, dataset, seed=seed)
    account = run.account
    chosen, figures = account["known"]["chosen"], account["known"]["figures"]
    ordered = best_of(account, OF_ORDER)
    # recency tells the others something too: of each, the weights of histories are chosen
    assert ordered > 1.15 * best_of(account, ("als", "graph_filter", "ease", *COUNTED))
    # whatever the seed, an order that knows what follows what: such a source, or something that holds it
    assert chosen in (*OF_ORDER, *OF_SOURCES, LIGHT, RELEVANCE) and value(account, chosen) >= ordered
    assert {name.partition(" ")[0] for name in figures} <= {*run.sources, *OF_SOURCES, *RANKERS}
    assert_no_worse_than_its_best_part(run)


# --- what is measured and what is served ------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_futures(tmp_path_factory) -> list[tuple[Trained, Dataset]]:
    """The same log twice, but that other things were liked in the last fifth of it."""
    out = []
    for name in ("one", "other"):
        folder = tmp_path_factory.mktemp(name)
        table = planted.ratings(0, users=200, items=80, rows=16)
        if name == "other":
            cut = len(table) - len(table) // 5
            later = table[cut:].sample(fraction=1, shuffle=True, seed=1)
            late = table[cut:].with_columns(item_id=later["item_id"], like=~table[cut:]["like"])
            table = pl.concat([table[:cut], late])
        dataset = Dataset.from_frames(folder / "data", {"impressions": table}, {"like": "positive"})
        out.append((trained(folder, dataset), dataset))
    return out


def test_what_is_measured_knows_nothing_of_the_test_window(two_futures):
    (one, _), (other, _) = two_futures
    assert one.account == other.account
    everybody = np.arange(200, dtype=np.int32)
    mine, theirs = (run.engine.slates(everybody) for run in (one, other))
    np.testing.assert_array_equal(mine.items, theirs.items)
    for name, scores in mine.scores.items():
        np.testing.assert_array_equal(scores, theirs.scores[name], name)


def test_what_is_served_knows_what_somebody_took_on_the_last_day(two_futures):
    lists = []
    for run, dataset in two_futures:
        served = RecommendationEngine.load(run.artifacts)
        user, item = int(dataset.log.user[-1]), int(dataset.log.item[-1])
        row = np.array([user], np.int32)
        assert served.state.seen.contains(row, np.array([[item]]))[0, 0]
        assert not run.engine.state.seen.contains(row, np.array([[item]]))[0, 0]
        lists.append(served.slates(np.arange(200, dtype=np.int32)).items)
    assert (lists[0] != lists[1]).any(axis=1).mean() > 0.5
