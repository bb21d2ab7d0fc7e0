"""The same input to the Open Bandit Pipeline (Saito and others, NeurIPS 2021) and to ours gives the same value.

`obp` pins versions of its own and is not among what tests install. Where it lies in an environment of its own,
`PYTHONPATH=ENVIRONMENT/lib/python3.11/site-packages pytest tests/off_policy/test_equal_to_obp.py` compares with it.
Without it the same input is held to sums written out here.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from recsys_cli.off_policy_estimates import single, slates
from recsys_cli.off_policy_estimates.reward_model import Foretold

HAS_OBP = importlib.util.find_spec("obp") is not None
EXACT = {"rel": 1e-8, "abs": 1e-12}
MOST = 1.5


class Log:
    """Rows of single choices in three places, with the whole distributions of both policies and a reward model."""

    def __init__(self, seed: int = 0, n: int = 2000, actions: int = 7, places: int = 3):
        rng = np.random.default_rng(seed)
        self.position = rng.integers(0, places, n)
        logging = rng.dirichlet(np.ones(actions), n)
        self.judged = rng.dirichlet(np.ones(actions), (n, places)).transpose(0, 2, 1)
        self.action = (rng.random(n)[:, None] < logging.cumsum(axis=1)).argmax(axis=1)
        self.propensity = logging[np.arange(n), self.action]
        self.reward = rng.binomial(1, 0.1 + 0.1 * self.action).astype(float)
        self.model = rng.random((n, actions, places))
        rows = np.arange(n)
        self.weight = self.judged[rows, self.action, self.position] / self.propensity
        expected = (self.judged * self.model)[rows, :, self.position].sum(axis=1)
        self.foretold = Foretold(self.model[rows, self.action, self.position], expected)


def ours(log: Log) -> dict[str, float]:
    w, r, q = log.weight, log.reward, log.foretold
    return {
        "ips": single.ips(w, r).estimate,
        "self_normalised_ips": single.self_normalised_ips(w, r).estimate,
        "direct_method": single.direct_method(q).estimate,
        "doubly_robust": single.doubly_robust(w, r, q).estimate,
        "switch_doubly_robust": single.switch_doubly_robust(w, r, q, MOST).estimate,
    }


@pytest.mark.skipif(not HAS_OBP, reason="obp is not installed")
@pytest.mark.parametrize("seed", range(3))
def test_estimators_of_single_choices_are_those_of_obp(seed):
    from obp.ope import estimators as theirs

    log = Log(seed)
    given = {
        "reward": log.reward, "action": log.action, "pscore": log.propensity, "action_dist": log.judged,
        "position": log.position,
    }
    made = {
        "ips": theirs.InverseProbabilityWeighting(),
        "self_normalised_ips": theirs.SelfNormalizedInverseProbabilityWeighting(),
        "direct_method": theirs.DirectMethod(), "doubly_robust": theirs.DoublyRobust(),
        "switch_doubly_robust": theirs.SwitchDoublyRobust(tau=MOST),
    }
    found = ours(log)
    for name, estimator in made.items():
        value = estimator.estimate_policy_value(**given, estimated_rewards_by_reg_model=log.model)
        assert found[name] == pytest.approx(value, **EXACT), name


def slate_log(seed: int, n: int = 800, places: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64[n, places] each: the chance of what was shown in each place under both policies, and its reward."""
    rng = np.random.default_rng(seed)
    logging, judged = rng.uniform(0.1, 1, (2, n, places))
    return logging, judged, rng.binomial(1, 0.3, (n, places)).astype(float)


@pytest.mark.skipif(not HAS_OBP, reason="obp is not installed")
@pytest.mark.parametrize("seed", range(3))
def test_estimators_of_slates_are_those_of_obp(seed):
    from obp.ope import estimators_slate as theirs

    logging, judged, reward = slate_log(seed)
    n, places = reward.shape
    given = {
        "slate_id": np.repeat(np.arange(n), places), "position": np.tile(np.arange(places), n),
        "reward": reward.ravel(),
    }
    ratio, through = judged / logging, (judged.cumprod(axis=1), logging.cumprod(axis=1))
    whole = [np.repeat(p.prod(axis=1), places) for p in (logging, judged)]
    cascade = [through[1].ravel(), through[0].ravel()]
    cases = {
        "standard": (theirs.SlateStandardIPS, "pscore", "evaluation_policy_pscore", whole, slates.standard_ips),
        "independent": (
            theirs.SlateIndependentIPS, "pscore_item_position", "evaluation_policy_pscore_item_position",
            [logging.ravel(), judged.ravel()], slates.independent_ips,
        ),
        "cascade": (
            theirs.SlateRewardInteractionIPS, "pscore_cascade", "evaluation_policy_pscore_cascade", cascade,
            slates.reward_interaction_ips,
        ),
    }
    for name, (kind, first, second, chances, mine) in cases.items():
        value = kind(len_list=places).estimate_policy_value(**given, **{first: chances[0], second: chances[1]})
        assert mine(ratio, reward).estimate == pytest.approx(value, **EXACT), name


def test_estimators_of_single_choices_are_those_of_their_papers_row_by_row():
    log = Log(9, n=300)
    total = dict.fromkeys(ours(log), 0.0)
    weights = 0.0
    for i in range(300):
        a, p = log.action[i], log.position[i]
        w = log.judged[i, a, p] / log.propensity[i]
        model = sum(log.judged[i, b, p] * log.model[i, b, p] for b in range(7))
        missed = w * (log.reward[i] - log.model[i, a, p])
        weights += w
        total["ips"] += w * log.reward[i] / 300
        total["self_normalised_ips"] += w * log.reward[i]
        total["direct_method"] += model / 300
        total["doubly_robust"] += (model + missed) / 300
        total["switch_doubly_robust"] += (model + (missed if w <= MOST else 0.0)) / 300
    total["self_normalised_ips"] /= weights
    assert ours(log) == pytest.approx(total, **EXACT)


def test_estimators_of_slates_are_those_of_their_papers_slate_by_slate():
    logging, judged, reward = slate_log(9, n=200)
    standard = independent = cascade = 0.0
    for chance, wanted, earned in zip(logging, judged, reward, strict=True):
        whole = np.prod(wanted) / np.prod(chance)
        standard += whole * sum(earned) / 200
        above = 1.0
        for c, w, r in zip(chance, wanted, earned, strict=True):
            above *= w / c
            independent += w / c * r / 200
            cascade += above * r / 200
    ratio = judged / logging
    assert slates.standard_ips(ratio, reward).estimate == pytest.approx(standard, **EXACT)
    assert slates.independent_ips(ratio, reward).estimate == pytest.approx(independent, **EXACT)
    assert slates.reward_interaction_ips(ratio, reward).estimate == pytest.approx(cascade, **EXACT)
