"""Corrections improve probabilities on rows they were not fitted on, and keep the ranking."""

import numpy as np
import pytest
import torch

from recsys_cli.metrics import expected_calibration_error, log_loss, roc_auc
from recsys_cli.ranking.calibration import METHODS, SEGMENT_ROWS, Calibration, by_segment, fit_calibration
from recsys_cli.ranking.networks.losses import gaussian_nll, weighted_bce


def miscalibrated(n, seed):
    """Logits that are twice too steep and shifted."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 1.5, n)
    return 2 * true + 1, rng.random(n) < 1 / (1 + np.exp(-true)), rng.integers(0, n // 5, n)


@pytest.mark.parametrize("method", ["platt", "isotonic", "auto"])
def test_calibration_improves_held_out_log_loss_and_calibration_error(method):
    calibration, _ = fit_calibration(*miscalibrated(4000, 0), method)
    logits, labels, _ = miscalibrated(4000, 1)
    raw, corrected = Calibration().apply(logits), calibration.apply(logits)
    assert log_loss(labels, corrected) < log_loss(labels, raw) - 0.07
    assert expected_calibration_error(labels, corrected) < 0.03 < expected_calibration_error(labels, raw)


def test_platt_finds_the_distortion_and_temperature_a_pure_scale():
    logits, labels, groups = miscalibrated(20_000, 0)
    platt, _ = fit_calibration(logits, labels, groups, "platt")
    assert platt.scale == pytest.approx(0.5, abs=0.03)
    assert platt.shift == pytest.approx(-0.5, abs=0.05)
    temperature, _ = fit_calibration(logits - 1, labels, groups, "temperature")
    assert temperature.scale == pytest.approx(0.5, abs=0.03)


def test_auto_leaves_calibrated_logits_alone():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, 3000)
    labels = rng.random(3000) < 1 / (1 + np.exp(-logits))
    calibration, probabilities = fit_calibration(logits, labels, np.arange(3000))
    assert calibration == Calibration()
    assert np.allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_auto_takes_the_curve_where_the_distortion_is_no_line():
    rng = np.random.default_rng(0)
    logits = rng.uniform(-4, 4, 20_000)
    labels = rng.random(20_000) < np.where(logits < 0, 0.1, 0.6) + 0.01 * logits
    assert fit_calibration(logits, labels, np.arange(20_000))[0].kind == "isotonic"


@pytest.mark.parametrize("method", METHODS)
def test_a_correction_never_turns_the_ranking_round(method):
    logits, labels, groups = miscalibrated(1000, 3)
    for y in (labels, ~labels):
        calibration, _ = fit_calibration(logits, y, groups, method)
        order = np.argsort(logits)
        assert np.all(np.diff(calibration.apply(logits)[order]) >= -1e-7)
    kept = fit_calibration(logits, labels, groups, method)[0].apply(logits)
    assert roc_auc(labels, kept) > roc_auc(labels, logits) - 0.005


def test_the_curve_gives_nobody_probability_0_or_1_unless_the_network_does():
    logits = np.linspace(-3, 3, 200)
    curve = METHODS["isotonic"](logits, logits > 0).apply(logits)
    assert 0 < curve.min() < curve.max() < 1


def test_cross_fitted_probabilities_of_a_user_never_saw_the_users_labels():
    logits, labels, groups = miscalibrated(2000, 0)
    _, before = fit_calibration(logits, labels, groups, "platt")
    mine = groups == groups[0]
    _, after = fit_calibration(logits, labels ^ mine, groups, "platt")
    assert np.array_equal(before[mine], after[mine])
    assert not np.array_equal(before[~mine], after[~mine])


def test_weighted_loss_by_hand():
    logits = torch.tensor([[0.0, 2.0], [0.0, -1.0], [5.0, 5.0]])
    labels = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    loss = weighted_bce(logits, labels, torch.tensor([1.0, 3.0, 0.0]))
    assert loss[0].item() == pytest.approx(np.log(2), rel=1e-6)
    assert loss[1].item() == pytest.approx((np.log1p(np.exp(-2)) + 3 * np.log1p(np.exp(-1))) / 4, rel=1e-6)
    plain = weighted_bce(logits, labels)
    p = torch.sigmoid(logits)
    assert torch.allclose(plain, -(labels * p.log() + (1 - labels) * (1 - p).log()).mean(dim=0), atol=1e-5)
    focal = weighted_bce(logits, labels, gamma=2.0)
    happened = torch.where(labels > 0, p, 1 - p)
    assert torch.allclose(focal, (-((1 - happened) ** 2) * happened.log()).mean(dim=0), atol=1e-5)


def test_dwell_loss_is_the_normal_likelihood_and_skips_unknown_dwell():
    mean, log_variance = torch.tensor([1.0, 5.0], requires_grad=True), torch.tensor([0.5, 0.1])
    loss = gaussian_nll(mean, log_variance, torch.tensor([2.0, float("nan")]))
    normal = torch.distributions.Normal(1.0, float(np.exp(0.25)))
    expected = -normal.log_prob(torch.tensor(2.0)).item() - 0.5 * np.log(2 * np.pi)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert mean.grad[1] == 0
    assert torch.isfinite(mean.grad).all()


def test_calibration_is_told_apart_by_segment_and_small_ones_are_left_out():
    rng = np.random.default_rng(0)
    segment = np.repeat([3, 1, 7], [2000, 1000, SEGMENT_ROWS - 1])
    truth = np.where(segment == 3, 0.2, 0.6)
    labels = rng.random(len(segment)) < truth
    found = by_segment(labels, np.full(len(segment), 0.4), truth, segment)
    assert list(found) == [3, 1]
    assert found[3]["ece_raw"] == pytest.approx(0.2, abs=0.03) and found[3]["ece"] < 0.03
    assert found[1]["mean"] == pytest.approx(0.6) and found[1]["rate"] == pytest.approx(0.6, abs=0.05)
    assert found[1]["rows"] == 1000
