"""What a kind of heavy ranker is: its settings, how it is fitted, brought back from a checkpoint, and served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_cli.ranking.heavy_config import HeavyConfig
    from recsys_cli.ranking.networks.config import HeavyNetworkConfig
    from recsys_cli.ranking.serving.served import ServedRanker
    from recsys_cli.ranking.trained import TrainedRanker
    from recsys_cli.ranking.training_inputs import TrainingInputs


def later(place: str) -> Callable[..., Any]:
    """The function "module:name" (below this package), whose module is imported when it is first called."""
    module, name = place.split(":")

    def call(*given):
        return attrgetter(name)(import_module(f"recsys_cli.ranking.{module}"))(*given)

    return call


SERVED_GRAPH = later("serving.dense:load_exported")
"""What serves a ranker that was exported as an ONNX graph, or as dense layers beside one."""


@dataclass(frozen=True)
class RankerKind:
    """One entry of the registry.

    The functions import what they need when they are called (see `later`): settings are read at every start of the
    program, torch and LightGBM only where a ranker is trained.
    """

    config: type[HeavyConfig]
    """settings, whose field `kind` has the name of the kind as its default"""
    fit: Callable[[Any, TrainingInputs], TrainedRanker]
    """fit(config, inputs): a ranker that is not calibrated yet"""
    restore: Callable[[Any, dict], TrainedRanker]
    """restore(config, content): the ranker whose `checkpoint()` gave the content; ArtifactError where none did"""
    serve: Callable[[Path, int], ServedRanker] = SERVED_GRAPH
    """serve(folder, threads): what `export(folder)` wrote, without torch; ArtifactError where it is damaged"""
    quantisable: bool = False
    """whether its graph has matrix products that can be taken in int8"""


def network_kind(config: type[HeavyNetworkConfig]) -> RankerKind:
    """A network whose settings give its trunk."""
    return RankerKind(
        config, later("networks.ranker:fit_network"), later("networks.ranker:NetworkRanker.restore"), quantisable=True
    )
