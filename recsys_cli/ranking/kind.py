"""What a kind of heavy ranker is: its settings, how it is fitted, brought back from a checkpoint, and served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_cli.ranking.heavy_config import HeavyConfig
    from recsys_cli.ranking.networks.config import HeavyNetworkConfig
    from recsys_cli.ranking.serving.served import ServedRanker
    from recsys_cli.ranking.trained import TrainedRanker
    from recsys_cli.ranking.training_inputs import TrainingInputs


def serve_graph(folder: Path, threads: int) -> ServedRanker:
    """Serve the ONNX graph that `TrainedRanker.export` wrote into a folder."""
    from recsys_cli.ranking.serving.served import GraphRanker

    return GraphRanker.load(folder, threads)


@dataclass(frozen=True)
class RankerKind:
    """One entry of the registry.

    The functions import what they need when they are called: settings are read at every start of the program, torch
    and LightGBM only where a ranker is trained.
    """

    config: type[HeavyConfig]
    """settings, whose field `kind` has the name of the kind as its default"""
    fit: Callable[[Any, TrainingInputs], TrainedRanker]
    """fit(config, inputs): a ranker that is not calibrated yet"""
    restore: Callable[[Any, dict], TrainedRanker]
    """restore(config, content): the ranker whose `checkpoint()` gave the content; ArtifactError where none did"""
    serve: Callable[[Path, int], ServedRanker] = serve_graph
    """serve(folder, threads): what `export(folder)` wrote, without torch; ArtifactError where it is damaged"""
    quantisable: bool = False
    """whether its graph has matrix products that can be taken in int8"""


def network_kind(config: type[HeavyNetworkConfig]) -> RankerKind:
    """A network whose settings give its trunk."""

    def fit(config: HeavyNetworkConfig, inputs: TrainingInputs) -> TrainedRanker:
        from recsys_cli.ranking.networks.ranker import fit_network

        return fit_network(config, inputs)

    def restore(config: HeavyNetworkConfig, content: dict) -> TrainedRanker:
        from recsys_cli.ranking.networks.ranker import NetworkRanker

        return NetworkRanker.restore(config, content)

    return RankerKind(config, fit, restore, quantisable=True)
