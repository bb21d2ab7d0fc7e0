"""Fitting a network of the heavy ranker: from tables to a trained, uncalibrated ranker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from recsys_cli.errors import RecsysError
from recsys_cli.parallel import torch_threads
from recsys_cli.ranking.heavy_config import with_common
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.networks.network import ServedNetwork
from recsys_cli.ranking.networks.ranker import NetworkRanker
from recsys_cli.ranking.networks.training_loop import TrainingLoop
from recsys_cli.ranking.networks.training_rows import complete_spec, input_spec, place_codes, training_rows
from recsys_cli.ranking.networks.warm_start import earlier_input_spec
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.trees.fitting import fit_trees

PARALLEL_STEP = 2**30
"""Multiplications a step from which more than one thread pays; below, they wait for each other."""


def fit_network(config: HeavyNetworkConfig, inputs: TrainingInputs) -> NetworkRanker:
    """The network of a configuration, trained and not yet calibrated."""
    device, train, valid, tasks = _device(config), inputs.train, inputs.valid, inputs.tasks
    spec = complete_spec(config, input_spec(train), train, tasks, inputs.progress)
    if inputs.warm is not None:
        spec = earlier_input_spec(inputs.warm, spec, train.names)
    dwell = config.dwell and train.dwell is not None and bool(np.isfinite(train.dwell).sum() >= 2)
    teaching = None
    if config.teacher is not None:
        settings = with_common(config.teacher, config, dwell=False)
        teaching = sigmoid(fit_trees(settings, replace(inputs.aside("teacher"), warm=None)).logits(train.values)[0])
    data = training_rows(config, spec, train, tasks, dwell, device, inputs.progress, teaching)
    loop = TrainingLoop(config, spec, data, inputs, valid_place=place_codes(valid) if spec.places else None)
    with torch_threads(inputs.threads if loop.multiplications >= PARALLEL_STEP else 1):
        members, history = loop.run()
    network = ServedNetwork(members, float(np.nanmax(train.dwell)) if dwell else 0.0).to(device).eval()
    return NetworkRanker(
        config=config, names=train.names, tasks=tasks, spec=spec, network=network, dwell=dwell,
        dropped=inputs.dropped, history=history,
    )


def _device(config: HeavyNetworkConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise RecsysError("ranking.heavy.device is cuda and this machine has no usable GPU", "set it to auto or cpu")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")
