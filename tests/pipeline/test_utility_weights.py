"""Whose actions are worth what: presets and weights of a user's own."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.log import Log
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.pipeline.config import HeavyStageConfig, UtilityConfig
from recsys_cli.pipeline.scoring import Utility
from recsys_cli.pipeline.utility import multipliers, proposed_weights, weights_in_use, weights_of

SCORES = {
    "p_like": [[0.5, 0.1]], "p_reply": [[0.0, 0.1]], "p_hide": [[0.0, 0.01]], "p_click": [[0.9, 0.9]],
    "dwell": [[10.0, 10.0]],
}


def utility(make, config, personal=None, user=0):
    query = make.query(make.state(make.catalogue([0, 0])), [user])
    stage = Utility(config, HeavyStageConfig(), personal)
    out = stage(query, make.candidates([[0, 1]], **SCORES))
    return dict(zip(out.items[0].tolist(), out.scores["utility"][0].tolist(), strict=True))


def bundle(make, ids=("ann", "bob", "cem", "dee")):
    catalogue = replace(
        make.catalogue([0]), names={"user.country": ["de", "fr"]},
        user_codes={"country": np.array([0, 1, 0, -1], np.int32)},
        user_numbers={"active": np.array([1, 0, np.nan, 1], np.float32)},
    )
    heavy = SimpleNamespace(tasks=("like", "reply", "hide", "boost"))
    return SimpleNamespace(
        catalogue=catalogue, heavy=heavy, user_ids=Vocabulary(np.array(ids)), proposed_weights={}
    )


def test_the_preset_weighs_as_twitter_published(make):
    found = utility(make, UtilityConfig(preset="twitter"))
    assert found[0] == pytest.approx(0.5 * 0.5)
    assert found[1] == pytest.approx(0.5 * 0.1 + 13.5 * 0.1 - 74 * 0.01, rel=1e-5)
    assert weights_of(UtilityConfig())["dwell"] == UtilityConfig().dwell


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_multipliers_of_segments_and_file_meet_in_a_product(make, tmp_path, encoding):
    path = tmp_path / "own.csv"
    path.write_text("user_id,like,dwell\nann,2,0\nzoe,9,9\nbob,,3\n", encoding=encoding)
    config = UtilityConfig(
        segments=[{"attribute": "country", "multiply": {"de": {"like": 3}}},
                  {"attribute": "active", "multiply": {"1": {"hide": 10}}}],
        personal=str(path),
    )
    found = multipliers(config, bundle(make))
    users = np.array([0, 1, 2, 3, -1, 4])
    assert found.of(users, "like").tolist() == [6, 1, 3, 1, 1, 1]
    assert found.of(users, "hide").tolist() == [10, 1, 1, 10, 1, 1]
    assert found.of(users, "dwell").tolist() == [0, 3, 1, 1, 1, 1]
    assert found.of(users, "reply") is None
    assert found.notes == (f"1 of 3 users of {path} are not in the run",)
    mine, plain = utility(make, config, found), utility(make, UtilityConfig())
    like, hide = UtilityConfig().weights["like"], UtilityConfig().weights["hide"]
    assert mine[0] == pytest.approx(plain[0] + 5 * like * 0.5 - UtilityConfig().dwell * 10, rel=1e-5)
    assert mine[1] == pytest.approx(plain[1] + 5 * like * 0.1 - 9 * hide * 0.01 - UtilityConfig().dwell * 10, rel=1e-5)
    assert multipliers(UtilityConfig(), bundle(make)) is None


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        ({"attribute": "contry", "multiply": {"de": {"like": 2}}}, "no 'contry'\ndid you mean 'country'"),
        ({"attribute": "country", "multiply": {"dx": {"like": 2}}}, "never is 'dx'"),
        ({"attribute": "active", "multiply": {"yes": {"like": 2}}}, "is a number, 'yes' is none"),
        ({"attribute": "country", "multiply": {"de": {"lke": 2}}}, "no action 'lke'\ndid you mean 'like'"),
    ],
)
def test_a_segment_that_is_not_there_is_refused(make, segment, said):
    with pytest.raises(ConfigError, match=said):
        multipliers(UtilityConfig(segments=[segment]), bundle(make))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,like\nann,1\n", "no column user_id"),
        ("user_id,lke\nann,1\n", "column 'lke' is no action"),
        ("user_id,like\nann,1\nbob,much\n", "line 3, column like: 'much' is no multiplier"),
        ("user_id,like\nann,-1\n", "line 2, column like"),
        ("user_id,like\nann\n", "line 2: 1 cells, the header has 2"),
        ("user_id,like\nann,1\nann,2\n", "user ann stands there more than once"),
        ("", "cannot be read"),
    ],
)
def test_a_file_that_is_none_of_multipliers_is_refused_with_the_place(make, tmp_path, text, said):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        multipliers(UtilityConfig(personal=str(path)), bundle(make))


def test_a_file_that_is_missing_is_refused(make, tmp_path):
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        multipliers(UtilityConfig(personal=str(tmp_path / "none.csv")), bundle(make))


def log_of(counts, negative=()):
    n = max(counts.values())
    actions = {a: np.arange(n) < c for a, c in counts.items()}
    zero = np.zeros(n, np.int64)
    positive = tuple(a for a in counts if a not in negative)
    return Log(zero.astype(np.int32), zero.astype(np.int32), zero, actions, positive, tuple(negative))


def test_actions_without_a_weight_are_weighed_by_their_rarity():
    log = log_of({"view": 10_000, "add_to_cart": 1_000, "gift": 1, "never": 0, "return_": 1_000}, ["return_"])
    found = proposed_weights(log)
    assert found["view"] == 0.5
    assert found["add_to_cart"] == pytest.approx(0.5 * (1 + np.log(10)), abs=1e-3)
    assert found["gift"] == 5.0 and "never" not in found
    assert found["return_"] == pytest.approx(2 * found["add_to_cart"], abs=2e-3)


def test_named_weights_win_over_proposed_ones_and_the_manifest_tells_both():
    log = log_of({"click": 100, "add_to_cart": 10})
    config = UtilityConfig(weights={"click": 0.7})
    used = weights_in_use(config, log)
    assert used["weights"]["click"] == 0.7 and used["weights"]["add_to_cart"] == used["proposed"]["add_to_cart"] > 1
    assert "click" not in used["proposed"]
    assert weights_in_use(UtilityConfig(preset="twitter"), log)["proposed"] == {}
    assert weights_of(config, {"click": 9.0, "x": 2.0}) == {"click": 0.7, "x": 2.0, "dwell": config.dwell}
