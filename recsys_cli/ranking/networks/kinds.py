"""The networks of the heavy ranker by kind: settings and trunk of each. Cheap to import: torch comes with the trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from recsys_cli.errors import DataError
from recsys_cli.ranking.networks.config import HeavyNetworkConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from recsys_cli.ranking.networks.trunks import Layers

NESTED = 0.99
"""An action lies behind another where at least this share of its positives have the other too."""


def _trunks():
    from recsys_cli.ranking.networks import trunks

    return trunks


class MlpConfig(HeavyNetworkConfig):
    """What networks with dense layers take beside."""

    hidden: list[PositiveInt] = [256, 64]
    """Widths of the dense layers."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""

    @property
    def layers(self) -> Layers:
        """The dense layers as trunks take them."""
        return _trunks().Layers(tuple(self.hidden), self.dropout, self.batch_norm)


class SharedBottomConfig(MlpConfig):
    """One trunk shared by all tasks, one head a task (Caruana, Machine Learning 28, 1997)."""

    kind: Literal["shared_bottom"] = "shared_bottom"

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().SharedBottom(width, self.layers)


class MmoeConfig(MlpConfig):
    """Multi-gate mixture of experts (Ma et al., KDD 2018)."""

    kind: Literal["mmoe"] = "mmoe"
    experts: PositiveInt = 2
    """Expert networks that all tasks share."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of each expert's layers."""
    head: NonNegativeInt = 32
    """Width of a hidden layer in each head; 0 for none."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().Mmoe(width, tasks, self.experts, self.layers)


class PleConfig(MlpConfig):
    """Progressive layered extraction (Tang et al., RecSys 2020)."""

    kind: Literal["ple"] = "ple"
    shared_experts: PositiveInt = 2
    """Expert layers a level that all tasks share, beside one of each task."""
    hidden: list[PositiveInt] = Field([128, 32], min_length=1)
    """Width of the experts of each level."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().Ple(width, tasks, self.shared_experts, self.layers)


class DcnConfig(MlpConfig):
    """Deep and cross network, version 2, with cross layers of low rank (Wang et al., WWW 2021)."""

    kind: Literal["dcn_v2"] = "dcn_v2"
    cross_layers: PositiveInt = 2
    """Layers that multiply the input with what came before."""
    rank: PositiveInt = 32
    """Rank of their matrices."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().Dcn(width, self.cross_layers, self.rank, self.layers)


class MaskNetConfig(MlpConfig):
    """Parallel MaskNet (Wang et al., DLP-KDD 2021), as in the heavy ranker that Twitter published."""

    kind: Literal["masknet"] = "masknet"
    blocks: PositiveInt = 3
    """Mask blocks side by side."""
    mask_width: PositiveInt = 64
    """Width of the hidden layer that makes a mask."""
    block_width: PositiveInt = 64
    """Width of a block's output."""
    hidden: list[PositiveInt] = [128, 64]
    """Widths of the layers over all blocks."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().MaskNet(width, self.blocks, self.mask_width, self.block_width, self.layers)


class WideDeepConfig(MlpConfig):
    """Wide and deep (Cheng et al., DLRS 2016)."""

    kind: Literal["wide_deep"] = "wide_deep"
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the deep side."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 keeps the wide side linear."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().WideDeep(width, self.layers)


class DeepFmConfig(MlpConfig):
    """Factorisation machine and MLP on one input (Guo et al., IJCAI 2017)."""

    renamed: ClassVar[dict[str, str]] = {"factors": "dim"}

    kind: Literal["deepfm"] = "deepfm"
    dim: PositiveInt = 16
    """Factors of each input."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the deep side."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().DeepFm(width, self.dim, self.layers)


class EsmmConfig(MlpConfig):
    """Entire-space model: P(action) = P(first) · P(action | first), all rows train both (Ma et al., SIGIR 2018)."""

    kind: Literal["esmm"] = "esmm"
    first: str | None = None
    """Action of the first stage; empty for click, or without one the commonest action."""
    behind: list[str] | None = None
    """Actions that need the first; empty for those which hardly occur without it in the training rows."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of each of the two towers."""

    def stages(self, labels: dict[str, np.ndarray], tasks: Sequence[str]) -> list[int]:
        commonest = max(tasks, key=lambda t: labels[t].sum())
        first = self.first or ("click" if "click" in tasks else commonest)
        for name in (first, *(self.behind or ())):
            if name not in tasks:
                raise DataError(
                    f"ranking.heavy: esmm names {name!r}, which has no head", f"heads are {', '.join(tasks)}"
                )
        behind = self.behind
        if behind is None:
            behind = [t for t in tasks if labels[first][labels[t]].mean() >= NESTED]
        behind = [t for t in behind if t != first]
        if not behind:
            raise DataError(
                f"ranking.heavy: esmm finds no action behind {first!r}",
                "name some in ranking.heavy.behind, or take another kind",
            )
        return [tasks.index(first) if task in behind else -1 for task in tasks]

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().Esmm(width, tasks, [t for t, stage in enumerate(behind) if stage >= 0], self.layers)


class FmConfig(HeavyNetworkConfig):
    """Factorisation machine: a linear model and every product of two inputs, by factors (Rendle, ICDM 2010)."""

    renamed: ClassVar[dict[str, str]] = {"factors": "dim"}

    kind: Literal["fm"] = "fm"
    dim: PositiveInt = 8
    """Factors of each input, for each task."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().Fm(width, tasks, self.dim)


class NcfConfig(MlpConfig):
    """Neural collaborative filtering: products of user and item factors beside an MLP (He et al., WWW 2017)."""

    kind: Literal["ncf"] = "ncf"
    ids: list[Literal["user", "item", "author"]] = ["user", "item"]
    """Ids that enter as hashed embeddings, half of their width for the products and half for the MLP."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the MLP over ids and features."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if not {"user", "item"} <= set(self.ids):
            raise ValueError("ncf needs user and item among its ids")
        if self.id_dim % 2:
            raise ValueError("ncf needs an even id_dim")
        return self

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().Ncf(width, self.ids, self.id_dim, self.layers)


class DinConfig(MlpConfig):
    """Attention from the candidate to the user's last interactions, then an MLP (Zhou et al., KDD 2018)."""

    kind: Literal["din"] = "din"
    history: Literal["din"] = "din"
    """What reads the user's last interactions."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().SharedBottom(width, self.layers)


class TransformerConfig(MlpConfig):
    """Transformer over the user's last interactions with candidates isolated, then an MLP (as in X's Phoenix)."""

    kind: Literal["transformer"] = "transformer"
    history: Literal["transformer"] = "transformer"
    """What reads the user's last interactions."""

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        return _trunks().SharedBottom(width, self.layers)


NETWORKS: dict[str, type[HeavyNetworkConfig]] = {
    "shared_bottom": SharedBottomConfig,
    "mmoe": MmoeConfig,
    "ple": PleConfig,
    "dcn_v2": DcnConfig,
    "masknet": MaskNetConfig,
    "wide_deep": WideDeepConfig,
    "deepfm": DeepFmConfig,
    "esmm": EsmmConfig,
    "fm": FmConfig,
    "ncf": NcfConfig,
    "din": DinConfig,
    "transformer": TransformerConfig,
}
"""`kind` → settings."""
