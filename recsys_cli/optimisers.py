"""Adam and AdamW of torch without its compiler, which their first step would load: as long as torch itself takes."""

from __future__ import annotations

import inspect

import torch


def _plain(optimiser: type[torch.optim.Optimizer], method: str):
    """The method without what is wrapped around it for the compiler's sake; nothing is compiled here."""
    return inspect.unwrap(getattr(optimiser, method))


class Adam(torch.optim.Adam):
    """As torch's (Kingma & Ba, ICLR 2015)."""

    add_param_group = _plain(torch.optim.Adam, "add_param_group")
    zero_grad = _plain(torch.optim.Adam, "zero_grad")
    state_dict = _plain(torch.optim.Adam, "state_dict")
    load_state_dict = _plain(torch.optim.Adam, "load_state_dict")
    step = torch.no_grad()(_plain(torch.optim.Adam, "step"))


class AdamW(Adam):
    """As torch's: the decay of weights stands beside the gradient (Loshchilov & Hutter, ICLR 2019)."""

    def __init__(self, parameters, **settings):
        super().__init__(parameters, decoupled_weight_decay=True, **settings)
