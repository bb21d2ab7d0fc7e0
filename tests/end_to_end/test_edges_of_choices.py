"""Where there is little to choose by or from: said in words, never a list worse than it has to be, never a crash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import planted_data as planted
import polars as pl
import pytest

from recsys_cli.cli.common import run as recsys
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.progress import Progress
from recsys_cli.settings import Settings
from recsys_cli.training import train

PLAIN = ("popularity", "trending", "item_neighbours")
ALONE = ("--threads", "1")
ROOT = Path(__file__).parents[2]


class Heard(Progress):
    """Keeps what a training says."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def settings_for(folder: Path, sources=PLAIN, **more) -> Settings:
    """Settings with these sources alone; more: sections."""
    retrieval = Settings().model_dump(mode="json")["retrieval"]
    for name, config in retrieval.items():
        config["enabled"] = name in sources
    return Settings.model_validate({
        "paths": {"data": str(folder / "data"), "artifacts": str(folder / "artifacts")}, "threads": 1,
        "retrieval": retrieval, "tuning": {"budget_seconds": 0}, **more,
    })


def trained(folder: Path, sources=PLAIN, **more) -> tuple[dict, RecommendationEngine, list[str]]:
    """(account of the order, what is served, what was said)"""
    heard = Heard()
    run = train(settings_for(folder, sources, **more), progress=heard)
    return run.manifest.metrics["order"], RecommendationEngine.load(folder / "artifacts"), heard.lines


def small_ratings(folder: Path, **columns) -> Path:
    table = planted.ratings(0, users=120, items=60, rows=14).with_row_index("row").with_columns(**columns).drop("row")
    Dataset.from_frames(folder / "data", {"impressions": table}, {"like": "positive"})
    return folder


@pytest.fixture(scope="module")
def rated(tmp_path_factory) -> Path:
    return small_ratings(tmp_path_factory.mktemp("rated"))


def published(folder: Path, train_part: pl.DataFrame, test_part: pl.DataFrame) -> Path:
    """A dataset of pairs that comes in train and test parts."""
    train_part.write_csv(folder / "train.csv")
    test_part.write_csv(folder / "test.csv")
    parts = [
        {
            "files": f"{part}.csv", "split": part, "columns": {"user_id": "user", "item_id": "item"},
            "actions": {"click": {"value": True}},
        }
        for part in ("train", "test")
    ]
    import_dataset(Mapping.model_validate({"name": "parts", "impressions": parts}), folder, folder / "data")
    return folder


def two_parts() -> tuple[pl.DataFrame, pl.DataFrame]:
    table = planted.communities(0, users=80, items=60, rows=14)
    cut = len(table) * 4 // 5
    return table[:cut], table[cut:]


def evaluated(folder: Path, capsys, *more: str) -> str:
    """What `evaluate` prints."""
    where = (*ALONE, "--data-dir", str(folder / "data"), "--artifacts-dir", str(folder / "artifacts"))
    capsys.readouterr()
    assert recsys(["evaluate", "--quiet", *where, "--set", "evaluation.resamples=100", *more]) == 0
    return capsys.readouterr().out


# --- little to choose by ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["auto", "item_neighbours"])
def test_with_no_interaction_in_the_validation_window_the_fusion_is_taken_and_said(wanted, tmp_path):
    n = 120 * 14
    late = pl.col("row").is_between(int(0.69 * n), int(0.81 * n))
    account, engine, _ = trained(
        small_ratings(tmp_path, like=pl.col("like") & ~late), ranking={"choose": wanted}
    )
    chosen = {"auto": "fusion", "item_neighbours": "item_neighbours"}[wanted]
    assert account["known"]["chosen"] == chosen == engine.order.known
    why = "nobody of the validation window" if wanted == "auto" else "the settings name it"
    assert why in account["known"]["why"] and account["known"]["figures"] == {}
    assert (engine.slates(np.arange(120)).items >= 0).all()


def test_propensities_of_too_few_listed_items_decide_nothing_and_that_is_said(tmp_path):
    truth = planted.biased_policy(0, users=60, requests=4, slate=5)
    Dataset.from_frames(tmp_path / "data", {"impressions": truth.impressions}, {"click": "positive"})
    account, _, _ = trained(tmp_path)
    assert account["criterion"].startswith("NDCG@10") and "too few listed items" in account["criterion"]


def test_a_test_window_without_interactions_trains_and_names_the_setting_when_measured(tmp_path, capsys):
    folder = small_ratings(tmp_path, like=pl.col("like") & (pl.col("row") < int(0.79 * 120 * 14)))
    trained(folder)
    where = (*ALONE, "--data-dir", str(folder / "data"), "--artifacts-dir", str(folder / "artifacts"))
    assert recsys(["evaluate", "--quiet", *where]) == 4
    error = capsys.readouterr().err
    assert "the test window holds no interaction" in error and "windows.test_share" in error


@pytest.mark.parametrize(
    ("rows", "window", "setting"),
    [(1, "ranker", "windows.history_share"), (2, "validation", "windows.validation_share")],
)
def test_an_empty_window_is_refused_with_the_setting_that_decides_it(rows, window, setting, tmp_path):
    log = pl.DataFrame({
        "user_id": np.repeat(np.arange(4), rows), "item_id": planted.items_of(range(4 * rows)),
        "click": [True] * (4 * rows),
    })
    Dataset.from_frames(tmp_path / "data", {"impressions": log}, {"click": "positive"})
    with pytest.raises(DataError, match=f"the {window} window holds no impression") as refused:
        train(settings_for(tmp_path))
    assert setting in str(refused.value)


# --- little to choose from --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["popularity", "item_neighbours", "bpr"])
def test_a_single_source_fills_the_lists_whether_it_has_a_share_or_not(source, rated, tmp_path):
    (tmp_path / "data").symlink_to(rated / "data")
    account, engine, said = trained(tmp_path, (source,))
    assert set(engine.bundle.retrievers) == {source} and source in account["known"]["figures"]
    assert (engine.slates(np.arange(120)).items >= 0).all()
    assert not any("proposes nothing" in line for line in said)


def test_a_source_that_is_enabled_and_has_no_share_beside_others_is_spoken_of(rated, tmp_path):
    (tmp_path / "data").symlink_to(rated / "data")
    _, engine, said = trained(tmp_path, (*PLAIN, "svd", "bpr"))
    told = [line for line in said if "proposes nothing of its own" in line]
    assert told == ["source bpr proposes nothing of its own: pipeline.sourcing.shares does not name it"]
    assert "bpr" in engine.bundle.retrievers


def test_no_source_at_all_is_refused(rated, tmp_path):
    (tmp_path / "data").symlink_to(rated / "data")
    with pytest.raises(DataError, match="no candidate source"):
        trained(tmp_path, ())


def test_an_order_that_does_not_exist_is_refused_before_anything_is_fitted(rated, tmp_path):
    (tmp_path / "data").symlink_to(rated / "data")
    with pytest.raises(ConfigError, match=r"ranking\.choose: 'populrity'.*\n?.*'popularity'"):
        trained(tmp_path, ranking={"choose": "populrity"})
    assert not (tmp_path / "artifacts").exists()


# --- published parts --------------------------------------------------------------------------------------


def test_pairs_in_both_parts_are_counted_named_left_out_of_what_is_to_be_found_and_refused_as_set(tmp_path, capsys):
    first, second = two_parts()
    folder = published(tmp_path, first, pl.concat([second, first[:40]]))
    _, _, said = trained(folder)
    (line,) = [line for line in said if "stand in train too" in line]
    assert line.startswith("40 of 264 pairs of the test part stand in train too (user ") and line.endswith(": kept")
    document = json.loads(evaluated(folder, capsys, "--format", "json"))
    assert document["truth"]["relevant"] == 224
    with pytest.raises(DataError, match="40 of 264 pairs") as refused:
        trained(folder, windows={"overlap": "refuse"})
    assert "windows.overlap" in str(refused.value)


def test_users_and_items_that_stand_in_the_test_part_alone_are_told_served_and_measured(tmp_path, capsys):
    first, second = two_parts()
    extra = pl.DataFrame(
        {"user": [900 + n for n in range(10)] + [0, 1, 2], "item": ["i1"] * 10 + ["only"] * 3},
        schema=second.schema,
    )
    folder = published(tmp_path, first, pl.concat([second, extra]))
    _, engine, said = trained(folder)
    assert any("10 of 86 users of the test window stand only there" in line for line in said)
    assert any("1 of 58 items of the test window stand only there" in line for line in said)
    document = json.loads(evaluated(folder, capsys, "--format", "json"))
    groups = {g["group"]: g["users"] for g in document["groups"]}
    assert groups["no history"] == 10
    # what is served has learned of both
    state = engine.state
    item, user = engine.bundle.item_ids.position("only"), engine.bundle.user_ids.position(900)
    assert state.interactions[item] == 3 and state.history.lengths[user] == 1
    measured = RecommendationEngine.load(folder / "artifacts", measured=True)
    lists = measured.bundle.retrievers["popularity"]
    assert measured.slates(np.array([user])).items.min() >= 0 and lists is not None


def test_where_no_test_user_is_known_the_lists_are_those_of_the_counting_source(tmp_path, capsys):
    first, second = two_parts()
    folder = published(tmp_path, first, second.with_columns(pl.col("user") + 1000))
    _, _, said = trained(folder)
    assert any("no test user has a row before the test window" in line for line in said)
    document = json.loads(evaluated(folder, capsys, "--format", "json"))
    systems = {s["name"]: s["metrics"]["ndcg@10"]["value"] for s in document["systems"]}
    assert systems["funnel"] == pytest.approx(systems["popularity"]) and systems["popularity"] > 0.1


# --- lists that lose --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_train_warns_and_evaluate_leads_with_words_where_the_order_set_by_hand_loses(tmp_path, capsys):
    table = planted.communities(0, users=200, items=100, rows=16)
    folder = published(tmp_path, table[: len(table) * 4 // 5], table[len(table) * 4 // 5 :])
    own = {name: {"enabled": name in PLAIN} for name in Settings().retrieval}
    (tmp_path / "own.yaml").write_text(json.dumps({"retrieval": own, "tuning": {"budget_seconds": 0}}))
    where = (
        *ALONE, "--config", str(tmp_path / "own.yaml"), "--data-dir", str(folder / "data"), "--artifacts-dir",
        str(folder / "artifacts"),
    )
    assert recsys(["train", "--quiet", *where, "--set", "ranking.choose=popularity"]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # where lines break depends on the terminal
    assert "warning: lists of people with a history are ordered by popularity, which has 0." in printed
    assert "below item_neighbours alone with 0." in printed
    losing = " ".join(evaluated(folder, capsys).split())
    first = losing.index("The list loses to its best source, item_neighbours: NDCG@10 0.")
    assert first < losing.index("popularity: NDCG@10") < losing.index("Ranking at 10")
    winning = evaluated(folder, capsys, "--set", "pipeline.order.known=item_neighbours")
    assert "The list loses" not in winning and "The list beats popularity: NDCG@10" in winning
    # where what orders the lists is named for serving alone, training warns as well
    assert recsys(["train", "--quiet", *where, "--set", "pipeline.order.known=popularity", "--format", "json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert len(warnings) == 1 and "ordered by popularity" in warnings[0]
    assert recsys(["train", "--quiet", *where, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


# --- the preset of a feed ---------------------------------------------------------------------------------


def test_the_preset_of_a_feed_explores_and_the_default_does_not(rated, tmp_path, capsys):
    preset = ROOT / "configs" / "presets" / "for-you.yaml"
    own = {name: {"enabled": name in PLAIN} for name in Settings().retrieval}
    sets = [f"retrieval.{name}.enabled={str(value['enabled']).lower()}" for name, value in own.items()]
    where = (*ALONE, "--data-dir", str(rated / "data"), "--artifacts-dir", str(tmp_path / "artifacts"))
    flags = [flag for one in sets for flag in ("--set", one)]
    assert recsys(["train", "--quiet", "-c", str(preset), *where, *flags]) == 0
    capsys.readouterr()
    engine = RecommendationEngine.load(tmp_path / "artifacts")
    assert engine.pipeline.exploration.enabled and engine.pipeline.diversity.enabled is True
    everybody = np.arange(120, dtype=np.int32)
    first, second = (engine.slates(everybody, request=salt).items for salt in (1, 2))
    plain = engine.with_pipeline(engine.pipeline.model_copy(update={"exploration": Settings().pipeline.exploration}))
    still, again = (plain.slates(everybody, request=salt).items for salt in (1, 2))
    np.testing.assert_array_equal(still, again)
    # a tenth of the slots, and not the same from one request to the next
    strangers = np.mean([~np.isin(row, usual) for row, usual in zip(first, still, strict=True)])
    assert 0.04 < strangers < 0.16 and (first != second).any(axis=1).mean() > 0.3
