"""What each stage costs and brings, and what lists are beside accurate."""

import numpy as np
import pytest

from recsys_cli.data.ragged import Ragged
from recsys_cli.evaluation.beyond import Beyond
from recsys_cli.evaluation.stage_costs import what_stages_bring
from recsys_cli.evaluation.stage_tables import positions_in_words, stage_rows, stages_in_words
from recsys_cli.evaluation.tables import difference
from recsys_cli.evaluation.truth import Truth
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.progress import Progress
from recsys_cli.slate_engine import SlateEngine
from recsys_cli.testing.planted_bundle import planted_bundle

STAGES = {
    "varied": {"kind": "mmr", "diversity": 0.6, "embeddings": "topics"},
    "nothing": {"kind": "minimum_exposure", "impressions": 10**9, "share": 0.1},
}


def brought():
    sourcing = {"shares": {"item_neighbours": 0.5, "popularity": 0.5}, "fallback": ["popularity"]}
    config = {"sourcing": sourcing, "stages": STAGES, "diversity": {"enabled": False}}
    engine = SlateEngine(planted_bundle(), PipelineConfig.model_validate(config))
    users = np.arange(60, dtype=np.int32)
    first = engine.slates(users).items
    relevant = Ragged(np.arange(61) * 2, np.sort(first[:, :2], axis=1).ravel())
    return what_stages_bring(engine, Truth(users, relevant, {}), 10, Progress(), resamples=100, seed=0)


def test_a_stage_is_told_by_what_its_slates_have_more_than_those_without_it():
    rows = {row["stage"]: row for row in brought()}
    assert rows["varied"]["changed"] > 0.9 and rows["varied"]["diversity"]["value"] > 0.05
    assert rows["varied"]["ndcg"]["value"] > 0, "the truth here is what stands first with it"
    assert rows["nothing"]["changed"] == 0 and rows["nothing"]["ndcg"]["value"] == 0


def test_stages_stand_in_tables_and_in_words_with_their_milliseconds():
    document = {
        "k": [5, 10], "slate_size": 10, "heavy_ranker": [], "stages": brought(),
        "funnel": [{"stage": "varied", "in": 50.0, "out": 20.0, "ms_per_user": 1.25},
                   {"stage": "select", "in": 20.0, "out": 10.0, "ms_per_user": 0.1}],
    }  # fmt: skip
    told = stages_in_words(document)
    assert "for 1.25 ms: NDCG@10 +" in told and told.startswith("What stages bring: ")
    first, second = stage_rows(document, difference)
    assert first["diversity"].startswith("+0.") and second["diversity"] == ""
    assert stages_in_words({**document, "stages": []}) == ""


def test_places_are_told_in_words_only_where_they_are_known():
    rows = [
        {"position": 1, "value": 1.0, "low": 1.0, "high": 1.0}, {"position": 4, "value": 0.5, "low": 0.4, "high": 0.6},
    ]  # fmt: skip
    assert "Place 4 of a list is taken 0.50 (0.40 to 0.60) times as often as place 1" in positions_in_words(
        {"positions": rows}
    )
    assert positions_in_words({"positions": []}) == ""


def test_figures_beside_accuracy_by_hand():
    beyond = Beyond(
        popularity=np.array([5.0, 3, 1, np.nan]), people=np.array([4, 2, 1, 0]), profile=np.array([2.0, np.nan]),
        age_days=np.array([1.0, 3, np.nan, 5]), unsafe=np.array([0.0, 1, 0, np.nan]),
    )
    items = np.array([[0, 1, 2], [2, 3, -1]], np.int32)
    hit = np.array([[True, False, True], [True, False, False]])
    found = beyond.by_user(items, hit, np.array([2, 1]), 2)
    # what everybody would be shown are items 0 and 1
    assert found["serendipity@2"].tolist() == [0.0, 0.5]
    assert found["popularity_lift@2"][0] == pytest.approx(3 / 2 - 1) and np.isnan(found["popularity_lift@2"][1])
    assert found["age_days@2"].tolist() == [2.0, 5.0] and found["unsafe@2"].tolist() == [0.5, 0.0]
    assert "sentiment" in beyond.lacks and "freshness" not in beyond.lacks and "sentiment@2" not in found
