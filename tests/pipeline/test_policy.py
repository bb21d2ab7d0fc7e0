"""The safety policy: which rule decides, what it does to an item, and that it is told."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ConfigError
from recsys_cli.pipeline.config import DiversityConfig, FilterConfig, HeavyStageConfig, UtilityConfig
from recsys_cli.pipeline.filters import LastChecks, Policy, prefilters
from recsys_cli.pipeline.scoring import Utility
from recsys_cli.pipeline.selection import Caps, Select
from recsys_cli.safety.config import Rule, SafetyConfig
from recsys_cli.safety.models import SafetyModels
from recsys_cli.safety.policy import SafetyRules

NAN = np.nan
LABELS = {"toxicity": [0.0, 0.6, 0.9, NAN, NAN], "nsfw": [0.0, 0.0, 0.9, 0.6, NAN]}


def rules(*given, **more):
    return SafetyConfig(rules=[Rule(**rule) for rule in given], **more)


def acting(catalogue, config):
    return SafetyRules.of(config, catalogue, SafetyModels())


def ranked(make, catalogue, config, items, user=0, follows=None):
    """Items in the order of utility (all predicted alike, the first first), and the journal."""
    state = make.state(catalogue)
    if follows is not None:
        state = replace(state, follows=Ragged.group(*np.array(follows, np.int32).T, catalogue.n_users))
    query = replace(make.query(state, [user]), journal=[])
    candidates = make.candidates([items], p_like=[[1.0 - 0.01 * n for n in range(len(items))]])
    candidates = Policy(acting(catalogue, config))(query, candidates)
    out = Utility(UtilityConfig(weights={"like": 1.0}), HeavyStageConfig())(query, candidates)
    return out, query.journal[0]


def test_the_combined_score_is_one_minus_the_weighted_mean_and_unknown_counts_as_the_mean_item(make):
    config = SafetyConfig(weights={"toxicity": 0.3, "nsfw": 0.1, "spam": 5.0})
    catalogue = make.catalogue([0] * 5, safety=LABELS)
    combined = acting(catalogue, config).verdicts(catalogue).combined
    np.testing.assert_allclose(combined, [1, 1 - 0.18 / 0.4, 0.1, 1 - (0.15 + 0.06) / 0.4, NAN, NAN], atol=1e-6)


def test_the_default_factors_are_those_of_the_reference(make):
    catalogue = make.catalogue([0] * 5, safety={"nsfw": [0.5, 0.51, 0.81, 0, 0.6], "toxicity": [0.5, 0, 0, 0.71, 0.6]})
    verdicts = acting(catalogue, SafetyConfig()).verdicts(catalogue)
    factor = verdicts.pick(verdicts.factors, np.array([[0, 1, 2, 3, 4, -1]]), None)
    np.testing.assert_allclose(factor, [[1, 0.7, 0.1, 0.1, 0.7 * 0.8, 1]], rtol=1e-6)


@pytest.mark.parametrize(("threshold", "left"), [(0.7, [0, 1, 3]), (0.05, [0, 1, 2, 3]), (0.95, [0])])
def test_items_below_the_combined_threshold_are_dropped(make, threshold, left):
    catalogue = make.catalogue([0] * 4, safety={"toxicity": [0, 0.25, 0.9, 0.2], "nsfw": [0, 0.25, 0.9, 0.3]})
    config = rules({"task": "combined", "below": threshold, "action": "drop"})
    out, _ = ranked(make, catalogue, config, [0, 1, 2, 3])
    assert sorted(out.items[0][out.items[0] >= 0]) == left


def test_downranked_items_fall_and_others_keep_their_order(make):
    catalogue = make.catalogue([0] * 4, safety={"nsfw": [0.9, 0.1, 0.6, 0.2], "spam": [0.1, 0, 0, 0]})
    out, actions = ranked(make, catalogue, SafetyConfig(weights={"nsfw": 1.0, "spam": 1.0}), [0, 1, 2, 3])
    assert out.items[0].tolist()[:3] == [1, 3, 2]
    assert actions.item.tolist() == [0, 2, 0]
    np.testing.assert_allclose(actions.score, [0.9, 0.6, 0.5], rtol=1e-6)


def test_a_drop_can_spare_the_authors_whom_the_viewer_follows_and_a_milder_rule_then_decides(make):
    catalogue = make.catalogue([1, 2], safety={"toxicity": [0.9, 0.9]})
    config = rules(
        {"task": "toxicity", "above": 0.8, "action": "drop", "unless_following": True},
        {"task": "toxicity", "above": 0.5, "action": "downrank", "factor": 0.5},
    )
    out, actions = ranked(make, catalogue, config, [0, 1], follows=[(0, 2)])
    assert out.items[0][out.items[0] >= 0].tolist() == [1]
    np.testing.assert_allclose(out.scores["utility"][0, 0], 0.99 * 0.5, rtol=1e-5)
    assert list(zip(actions.item.tolist(), actions.rule.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_allow_is_logged_and_keeps_milder_rules_away(make):
    catalogue = make.catalogue([0, 0], safety={"spam": [0.95, 0.7]})
    config = rules(
        {"task": "spam", "above": 0.9, "action": "allow"}, {"task": "spam", "above": 0.5, "action": "drop"}
    )
    out, actions = ranked(make, catalogue, config, [0, 1])
    assert out.items[0][out.items[0] >= 0].tolist() == [0]
    assert sorted(zip(actions.item.tolist(), actions.rule.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_scores_of_authors_act_on_their_items(make):
    catalogue = replace(
        make.catalogue([0, 1, -1], safety={"spam": [0, 0, 0]}), author_safety={"spam": np.float32([0.9, 0.1, NAN, NAN])}
    )
    out, _ = ranked(make, catalogue, rules({"task": "author_spam", "above": 0.5, "action": "drop"}), [0, 1, 2])
    assert sorted(out.items[0][out.items[0] >= 0]) == [1, 2]


def test_unknown_scores_trigger_nothing_and_are_counted(make):
    catalogue = make.catalogue([0] * 5, safety=LABELS)
    config = rules(
        {"task": "toxicity", "below": 0.5, "action": "drop"}, {"task": "nsfw", "above": 0.5, "action": "drop"}
    )
    out, actions = ranked(make, catalogue, config, [0, 1, 3, 4])
    assert sorted(out.items[0][out.items[0] >= 0]) == [1, 4]
    assert actions.unknown == 2


def test_the_slate_is_refilled_from_the_reserve_and_filters_hold_after_ranking(make):
    catalogue = make.catalogue(list(range(8)), users=9, safety={"nsfw": [0, 0.9, 0, 0, 0, 0, 0.9, 0]})
    state = make.state(catalogue, shown=[(8, 0, True)], blocks=[(8, 3)])
    query = make.query(state, [8], size=3)
    config = rules({"task": "nsfw", "above": 0.5, "action": "drop"})
    candidates = Caps(DiversityConfig(), 5)(query, make.candidates([list(range(8))]))
    checked = LastChecks(prefilters(FilterConfig()), acting(catalogue, config))(query, candidates)
    assert Select()(query, checked).items.tolist() == [[2, 4, 5]]


def test_an_interstitial_is_marked_on_the_slate(make):
    catalogue = make.catalogue([0, 1, 2], safety={"nsfw": [0.9, 0, 0.6]})
    config = rules(
        {"task": "nsfw", "above": 0.8, "action": "drop"}, {"task": "nsfw", "above": 0.5, "action": "interstitial"}
    )
    out = LastChecks([], acting(catalogue, config))(make.query(make.state(catalogue), [0]), make.candidates([[1, 2]]))
    assert out.scores["interstitial"].tolist() == [[0, 2]]  # the second rule is bit 1
    np.testing.assert_allclose(out.scores["safety"], [[1, 0.4]], rtol=1e-5)


@given(st.data())
def test_tables_agree_with_reading_the_rules_item_by_item(make, data):
    share = st.integers(0, 10).map(lambda n: n / 10)
    score = st.one_of(st.just(NAN), share)
    n = 6
    safety = {task: data.draw(st.lists(score, min_size=n, max_size=n)) for task in ("nsfw", "spam")}
    drawn = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["nsfw", "spam"]), share, st.sampled_from(["drop", "downrank", "allow"]), st.booleans()
            ),
            min_size=1, max_size=5, unique_by=lambda r: r[:2],
        )
    )
    config = rules(*(
        {"task": t, "above": a, "action": c, "unless_following": f} | ({"factor": 0.5} if c == "downrank" else {})
        for t, a, c, f in drawn
    ))
    catalogue = make.catalogue([0, 1] * 3, safety=safety)
    out, actions = ranked(make, catalogue, config, list(range(n)), follows=[(0, 1)])
    kept, told = set(), set()
    for item in range(n):
        dropped = False
        for task in ("nsfw", "spam"):
            fits = [
                (above, number) for number, (t, above, _, unless) in enumerate(drawn)
                if t == task and np.float32(safety[task][item]) > above and not (unless and item % 2 == 1)
            ]
            if fits:
                number = max(fits)[1]
                told.add((item, number))
                dropped |= drawn[number][2] == "drop"
        if not dropped:
            kept.add(item)
    assert set(out.items[0][out.items[0] >= 0].tolist()) == kept
    assert set(zip(actions.item.tolist(), actions.rule.tolist(), strict=True)) == told


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "nsfw", "action": "drop"},
        {"task": "nsfw", "above": 0.1, "below": 0.2, "action": "drop"},
        {"task": "nsfw", "above": 1.1, "action": "drop"},
        {"task": "nsfw", "above": 0.5, "action": "downrank"},
        {"task": "nsfw", "above": 0.5, "action": "drop", "factor": 0.5},
        {"task": "nsfw", "above": 0.5, "action": "hide"},
    ],
)
def test_incomplete_rules_are_refused(wrong):
    with pytest.raises(ValidationError):
        Rule(**wrong)


def test_a_score_that_nothing_gives_is_refused_by_name(make):
    catalogue = make.catalogue([0], safety={"nsfw": [0.5]})
    with pytest.raises(ConfigError, match="toxcity") as refused:
        acting(catalogue, rules({"task": "toxcity", "above": 0.5, "action": "drop"}))
    assert "did you mean 'toxicity'" in refused.value.hint


def test_without_any_score_there_is_no_policy(make):
    assert acting(make.catalogue([0]), SafetyConfig()) is None
    assert acting(make.catalogue([0], safety={"nsfw": [1]}), SafetyConfig(enabled=False)) is None
