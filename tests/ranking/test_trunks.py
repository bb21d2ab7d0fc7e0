"""Trunks that are computed in few large products say what their definition says, expert by expert."""

import numpy as np
import pytest
import torch
from torch.nn.functional import batch_norm

from recsys_cli.ranking.networks.network import InputLayer, InputSpec
from recsys_cli.ranking.networks.trunks import Dropout, Layers, Ple

TASKS, SHARED, ROWS, WIDTH = 3, 2, 7, 5


def softmax(x):
    return torch.softmax(x, dim=-1)


def activated(level, expert, outputs):
    """What follows the product of one expert."""
    mine = slice(expert * level.size, (expert + 1) * level.size)
    if isinstance(level.norm, torch.nn.BatchNorm1d):
        n = level.norm
        outputs = batch_norm(outputs, n.running_mean[mine], n.running_var[mine], n.weight[mine], n.bias[mine])
    return torch.relu(outputs)


def by_definition(level, inputs):
    """Outputs of a level from its inputs, of each task and then of the shared experts (Tang et al., RecSys 2020)."""
    experts, gates = [], []
    first = hasattr(level, "expert")
    for e in range(TASKS + SHARED):
        task = min(e, TASKS)
        if first:
            weight = level.expert.weight[e * level.size : (e + 1) * level.size]
            bias = 0 if level.expert.bias is None else level.expert.bias[e * level.size : (e + 1) * level.size]
            outputs = inputs[task] @ weight.T + bias
        elif e < TASKS:
            outputs = inputs[task] @ level.own[e][:, : level.size]
        else:
            outputs = inputs[task] @ level.others.weight[(e - TASKS) * level.size : (e - TASKS + 1) * level.size].T
        if not first and level.bias is not None:
            outputs = outputs + level.bias[e * level.size : (e + 1) * level.size]
        experts.append(activated(level, e, outputs))
    for task in range(TASKS):
        if first:
            mine = slice(task * level.choices, (task + 1) * level.choices)
            gates.append(softmax(inputs[task] @ level.gate.weight[mine].T + level.gate.bias[mine]))
        else:
            gates.append(softmax(inputs[task] @ level.own[task][:, level.size :] + level.gate_bias[task]))
    out = [
        sum(gates[t][:, i : i + 1] * x for i, x in enumerate([experts[t], *experts[TASKS:]])) for t in range(TASKS)
    ]
    if level.shared_gate is not None:
        gate = softmax(level.shared_gate(inputs[TASKS]))
        out.append(sum(gate[:, i : i + 1] * x for i, x in enumerate(experts)))
    return out


@pytest.mark.parametrize("hidden", [[4], [6, 4], [6, 5, 4]])
@pytest.mark.parametrize("norm", [True, False])
def test_ple_mixes_own_and_shared_experts_level_upon_level(hidden, norm):
    torch.manual_seed(0)
    ple = Ple(WIDTH, TASKS, SHARED, Layers(tuple(hidden), 0.2, norm)).double().eval()
    with torch.no_grad():
        for name, tensor in ple.state_dict().items():
            if tensor.is_floating_point() and "itself" not in name:
                tensor += 0.3 * torch.rand_like(tensor)
        x = torch.randn(ROWS, WIDTH, dtype=torch.float64)
        expected = [x] * (TASKS + 1)
        for level in ple.levels:
            expected = by_definition(level, expected)
        found = ple(x)
    assert found.shape == (TASKS, ROWS, hidden[-1])
    np.testing.assert_allclose(found, torch.stack(expected[:TASKS]), atol=1e-12)


def test_columns_are_those_that_were_asked_for():
    spec = InputSpec([3, 0], [False, False], [1.0, 2.0], [2.0, 4.0], [2], [5])
    layer = InputLayer(spec, 2, clip=5.0)
    numbers, codes = layer.prepare(torch.tensor([[2.0, 9.0, 4.0, 3.0], [10.0, 9.0, 7.0, -30.0]]))
    np.testing.assert_allclose(numbers, [[1.0, 0.0], [-5.0, 2.0]])
    assert codes.tolist() == [[4], [0]]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.999])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    layer = Dropout(share)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.ones(300, 1001, requires_grad=True)  # no multiple of the eight that are drawn together
        out = layer(x)
        other = layer(x)
    dropped = min(round(256 * share), 255) / 256
    assert float((out == 0).float().mean()) == pytest.approx(dropped, abs=0.004)
    kept = out[out != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - dropped)))
    assert torch.equal(out, other) == (dropped == 0)
    out.sum().backward()
    assert torch.equal(x.grad == 0, out == 0)  # what was dropped learns nothing
    assert torch.equal(layer.eval()(x), x)
    # neighbours are dropped each for themselves
    both = ((out == 0)[:, :-1] & (out == 0)[:, 1:]).float().mean()
    assert float(both) == pytest.approx(dropped**2, abs=0.006)
