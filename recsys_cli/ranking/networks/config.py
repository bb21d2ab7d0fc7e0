"""Settings that every network of the heavy ranker has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from recsys_cli.ranking.heavy_config import HeavyConfig, refuse_common
from recsys_cli.ranking.trees.config import LightGbmConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Rate = Annotated[float, Field(ge=0, lt=1)]


class HeavyNetworkConfig(HeavyConfig):
    """What every network of the heavy ranker takes."""

    embedding_dim: PositiveInt = 4
    """Width of the embedding of each categorical feature."""
    embedding_l2: NonNegativeFloat = 1e-3
    """Penalty on the squared norm of the embeddings that a batch looks up."""
    clip: PositiveFloat = 5.0
    """Standardised numbers are clipped to ± this many standard deviations."""
    dropout: Rate = 0.2
    """Share of hidden units dropped in training."""
    batch_norm: bool = True
    """Batch normalisation before each activation."""
    learning_rate: PositiveFloat = 2e-3
    """Peak learning rate of AdamW."""
    warmup_share: Rate = 0.05
    """Share of all steps over which the learning rate rises from zero; it falls along a cosine afterwards."""
    final_rate: Rate = 0.05
    """Learning rate at the last step, as a share of the peak."""
    weight_decay: NonNegativeFloat = 1e-2
    """Decoupled weight decay of the dense weights (Loshchilov & Hutter, ICLR 2019)."""
    clip_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
    batch_size: PositiveInt = 1024
    """Rows a step."""
    epochs: PositiveInt = 4
    """Most passes over the training rows."""
    min_steps: NonNegativeInt = 500
    """Small tables are passed over more often, until so many steps are made."""
    patience: PositiveInt = 3
    """Epochs without a better validation metric before training stops."""
    min_delta: NonNegativeFloat = 1e-4
    """By how much the metric must rise to count as better."""
    min_valid_positives: PositiveInt = 50
    """Tasks with at least so many positives on validation count in the early-stopping metric (their mean ROC-AUC)."""
    dwell_weight: NonNegativeFloat = 0.05
    """Weight of the dwell head's loss."""
    average: bool = True
    """Serve the moving average of the weights over the last steps instead of the last step's (Polyak averaging)."""
    average_decay: Rate = 0.995
    """Decay of that average, a step."""
    members: PositiveInt = 1
    """Networks trained from different seeds whose logits are averaged."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in training; weights, losses and what is served stay float32."""
    ids: list[Literal["user", "item", "author"]] = []
    """Ids that enter as hashed embeddings, so that new ones have a representation at once."""
    id_dim: PositiveInt = 16
    """Width of the embeddings of ids and of the items of histories."""
    id_buckets: PositiveInt = 16_384
    """Rows that the ids of one kind share."""
    id_hashes: PositiveInt = 2
    """Hash functions whose rows are added up for one id."""
    id_l2: NonNegativeFloat = 1e-3
    """Penalty on the squared norm of those embeddings that a batch looks up."""
    history: Literal["none", "din", "transformer"] = "none"
    """What reads the user's last interactions as of the impression and gives its reading to the trunk."""
    history_length: PositiveInt = Field(32, le=200)
    """Interactions read at most."""
    history_dim: PositiveInt = 32
    """Width in which they are read."""
    history_layers: PositiveInt = 1
    """Layers of the transformer."""
    history_heads: PositiveInt = 2
    """Attention heads of the transformer; a divisor of history_dim."""
    loss: Literal["bce", "focal"] = "bce"
    """Binary cross-entropy, or focal loss, which weighs down rows that are easy (Lin et al., ICCV 2017)."""
    focal_gamma: NonNegativeFloat = 1.0
    """Focusing exponent of the focal loss; 0 is cross-entropy."""
    listwise: NonNegativeFloat = 0.0
    """Weight of a softmax loss over the rows of a request (of a user and moment without request ids); 0 for none."""
    position_bias: Literal["none", "tower", "propensity"] = "none"
    """tower: a term of position and surface that is learned beside the network and fixed at its mean in service (Zhao
    et al., RecSys 2019); propensity: rows weighted by the inverse of the logged propensity."""
    propensity_floor: float = Field(0.01, gt=0, le=1)
    """Smaller propensities count as this one."""
    balance: Literal["none", "uncertainty", "gradnorm", "pcgrad"] = "none"
    """How the losses of tasks are weighed: as set; by learned uncertainty (Kendall et al., CVPR 2018); so that tasks
    learn at one pace (Chen et al., ICML 2018); without the parts of gradients that conflict (Yu et al., NeurIPS
    2020)."""
    gradnorm_alpha: NonNegativeFloat = 1.0
    """How strongly gradnorm pulls back tasks that learn faster."""
    half_life_days: PositiveFloat | None = None
    """Age at which a training row weighs half; empty for equal weights."""
    dwell_loss: Literal["log_normal", "quantile"] = "log_normal"
    """The dwell head gives the mean of a log-normal, or a quantile by the pinball loss."""
    dwell_quantile: float = Field(0.5, gt=0, lt=1)
    """Which quantile."""
    teacher: LightGbmConfig | None = None
    """Boosted trees that are fitted first and whose probabilities the network learns beside the labels (knowledge
    distillation: Hinton, Vinyals & Dean, 2015), so that it is as good as both and serves as fast as alone; empty for
    none."""
    teacher_share: float = Field(0.8, gt=0, le=1)
    """Weight of the teacher's probability in what a row teaches; its label has the rest."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.ids)) < len(self.ids):
            raise ValueError("ids names one kind of id twice")
        if self.history == "transformer" and self.history_dim % self.history_heads:
            raise ValueError(
                f"history_dim ({self.history_dim}) must be a multiple of history_heads ({self.history_heads})"
            )
        if self.teacher is not None:
            refuse_common(self.teacher, "teacher", "the network")
            if self.loss == "focal" or self.position_bias != "none":
                raise ValueError("a teacher's probabilities need loss: bce and position_bias: none")
        return self

    def trunk(self, width: int, tasks: int, behind: Sequence[int]) -> nn.Module:
        """The part of the network between its input float32[n, width] and its heads.

        A module whose `width` is that of its output: float32[tasks, n, width], or float32[n, width] where all tasks
        share one representation. behind: as of `stages`, with -1 for the dwell head; empty where there are no stages.
        """
        raise NotImplementedError

    def stages(self, labels: dict[str, np.ndarray], tasks: Sequence[str]) -> list[int]:
        """Of each task the place of the task of the stage before it, -1 for none; empty for networks without stages.

        labels: action → bool[n] of the training rows. Raises DataError where they do not fit the settings.
        """
        return []
