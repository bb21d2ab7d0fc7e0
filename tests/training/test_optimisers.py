"""Optimisers step as torch's own do, and leave its compiler where it is."""

import subprocess
import sys

import pytest
import torch

from recsys_cli import optimisers


def _weights(optimiser, **settings) -> torch.Tensor:
    """Weights after five steps, the state put back once in between."""
    torch.manual_seed(0)
    layer, rows = torch.nn.Linear(9, 4), torch.randn(32, 9)
    found = optimiser(layer.parameters(), lr=0.01, **settings)
    for number in range(5):
        if number == 3:
            state = found.state_dict()
            found = optimiser(layer.parameters(), lr=0.01, **settings)
            found.load_state_dict(state)
        found.zero_grad(set_to_none=True)
        layer(rows).square().sum().backward()
        found.step()
    return torch.cat([p.detach().flatten() for p in layer.parameters()])


@pytest.mark.parametrize(
    ("name", "settings"),
    [("Adam", {}), ("AdamW", {"weight_decay": 0.1}), ("AdamW", {"weight_decay": 0.1, "fused": True})],
    ids=["adam", "adamw", "adamw fused"],
)
def test_steps_are_those_of_torch_to_the_last_bit(name, settings):
    ours, theirs = (_weights(getattr(where, name), **settings) for where in (optimisers, torch.optim))
    assert torch.equal(ours, theirs) and not torch.equal(ours, _weights(torch.optim.SGD))


def test_no_step_loads_the_compiler():
    script = (
        "import sys, torch\n"
        "from recsys_cli.optimisers import AdamW\n"
        "weight = torch.ones(3, requires_grad=True)\n"
        "found = AdamW([weight], lr=0.1)\n"
        "found.zero_grad(); weight.sum().backward(); found.step(); found.load_state_dict(found.state_dict())\n"
        "print('torch._dynamo' in sys.modules, weight.tolist())"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    # a first step is as long as the learning rate, whatever the gradient
    assert told.startswith("False [0.9"), told
