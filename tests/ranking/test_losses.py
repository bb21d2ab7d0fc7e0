"""Losses and the balance of tasks do what their papers say, by hand on a few rows."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from recsys_cli.ranking.networks.kinds import SharedBottomConfig
from recsys_cli.ranking.networks.losses import listwise_softmax, pinball
from recsys_cli.ranking.networks.task_balance import TaskBalance


def test_listwise_softmax_lets_the_rows_of_a_request_compete():
    logits = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 5.0], [7.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    group = torch.tensor([4, 4, 4, 9])
    found = listwise_softmax(logits, labels, group)
    total = math.exp(1) + math.exp(3) + math.exp(2)
    # the request of one row has nothing to compare
    assert found[0].item() == pytest.approx(-(math.log(math.exp(1) / total) + math.log(math.exp(2) / total)) / 2)
    assert found[1].item() == pytest.approx(math.log(2 + math.exp(5)) - 5, abs=1e-6)
    shifted = logits + torch.tensor([10.0, 10.0, 10.0, -3.0])[:, None]
    assert torch.allclose(found, listwise_softmax(shifted, labels, group), atol=1e-5)


def test_listwise_softmax_weighs_rows_and_gives_nothing_without_a_comparison():
    logits = torch.tensor([[1.0], [3.0], [2.0]])
    labels, group = torch.tensor([[1.0], [0.0], [1.0]]), torch.zeros(3, dtype=torch.int64)
    weighed = listwise_softmax(logits, labels, group, weight=torch.tensor([3.0, 1.0, 1.0]))
    top = math.log(math.exp(1) + math.exp(3) + math.exp(2))
    assert weighed.item() == pytest.approx((3 * (top - 1) + (top - 2)) / 4)
    assert listwise_softmax(logits, torch.ones(3, 1), group).item() == 0


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_the_pinball_loss_is_least_at_the_quantile(quantile):
    target = torch.from_numpy(np.append(np.random.default_rng(0).exponential(1, 999), np.nan))
    guesses = torch.linspace(0, 5, 501, dtype=torch.float64)
    losses = [pinball(g.expand(1000), target, quantile).item() for g in guesses]
    assert guesses[int(np.argmin(losses))].item() == pytest.approx(np.nanquantile(target, quantile), abs=0.02)


class Plane(nn.Module):
    """Two weights whose tasks pull as they are told."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(2, 1, bias=False)
        nn.init.zeros_(self.trunk.weight)

    def losses(self, *directions):
        return torch.stack([(torch.tensor(d) * self.trunk.weight[0]).sum() + 1 for d in directions])


def balanced(kind, losses, network, steps=1):
    balance = TaskBalance(SharedBottomConfig(balance=kind), 2, 0)
    for _ in range(steps):
        network.zero_grad()
        total = balance.backward(losses(), (network.trunk.weight * 0).sum(), network)
    return balance, total


def test_pcgrad_takes_out_what_conflicts_and_leaves_the_rest():
    network = Plane()
    balanced("pcgrad", lambda: network.losses([1.0, 0.0], [-1.0, 1.0]), network)
    # (1, 0) loses its part along (−1, 1): (½, ½); (−1, 1) loses its part along (1, 0): (0, 1)
    assert torch.allclose(network.trunk.weight.grad[0], torch.tensor([0.5, 1.5]))
    balanced("pcgrad", lambda: network.losses([1.0, 0.0], [1.0, 1.0]), network)
    assert torch.allclose(network.trunk.weight.grad[0], torch.tensor([2.0, 1.0]))


def test_gradnorm_evens_out_gradients_of_different_length_and_keeps_the_mean_weight():
    network = Plane()
    balance, total = balanced("gradnorm", lambda: network.losses([10.0, 0.0], [0.0, 1.0]), network, steps=400)
    assert balance.weight.sum().item() == pytest.approx(2)
    lengths = balance.weight * torch.tensor([10.0, 1.0])
    assert lengths[0].item() == pytest.approx(lengths[1].item(), rel=0.15)
    assert total.item() == 2


def test_uncertainty_weighs_a_task_by_the_inverse_of_its_loss():
    network = Plane()
    balance = TaskBalance(SharedBottomConfig(balance="uncertainty"), 2, 0)
    optimiser = torch.optim.SGD(balance.parameters(), lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        balance.backward(torch.tensor([4.0, 0.25]), (network.trunk.weight * 0).sum(), network)
        optimiser.step()
    # exp(−s)·L + s/2 is least at e^s = 2L
    assert torch.allclose(torch.exp(balance.log_variance), torch.tensor([8.0, 0.5]), rtol=1e-2)


def test_without_a_balance_losses_are_added_up():
    network = Plane()
    balanced("none", lambda: network.losses([1.0, 0.0], [-1.0, 1.0]), network)
    assert torch.equal(network.trunk.weight.grad[0], torch.tensor([0.0, 1.0]))
