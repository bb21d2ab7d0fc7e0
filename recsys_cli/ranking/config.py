"""Settings of the rankers. Cheap to import: no torch here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from recsys_cli.config import Section

Rate = Annotated[float, Field(ge=0, lt=1)]


class LightRankerConfig(Section):
    """Light ranker: logistic regression of what is taken among a request's candidates, on cheap features."""

    features: list[str] = [
        "item_age", "item_interactions_1h", "item_interactions_1d", "item_trend", "item_impressions",
        "item_positive_logodds", "author_followers", "author_positive_logodds", "user_author_positive_logodds",
        "tie_strength", "follows_author", "topic_match", "user_topic_positive_logodds",
    ]
    """Names of the features it may use beside those of the request; those that a dataset does not have are left out."""
    l2: NonNegativeFloat = 1.0
    """Ridge penalty on the weights of standardised features, in rows."""
    max_iterations: PositiveInt = 50
    """Most Newton steps."""
    max_rows: PositiveInt = 500_000
    """Training rows used at most, the latest ones."""
    distil: bool = False
    """Learn which candidates the heavy ranker places among a user's best 100 instead, from what the sources propose to
    some users before the test window."""
    measured_users: NonNegativeInt = 200
    """Users on whom training measures how much of the heavy ranker's best the light ranker's cut keeps; 0 for none."""


class RelevanceConfig(Section):
    """Relevance ranker: the probability that a proposed candidate is taken, from rows of requests."""

    enabled: bool = True
    """Whether to fit one."""
    features: list[str] = [
        "user_impressions", "item_age", "item_age_missing", "item_interactions_1h",
        "item_interactions_1d", "item_trend", "item_impressions", "item_positive_logodds", "item_burst",
        "author_followers", "author_positive_logodds", "user_author_positive_logodds", "tie_strength",
        "follows_author", "topic_match", "user_topic_positive_logodds",
    ]
    """Features beside those of the request (standardised score and place by every source, and figures over all of
    them); names that a dataset does not have are left out."""
    attributes: bool = True
    """Take the attributes of users and items as features too."""
    moments: PositiveInt = 2
    """Moments of the ranker's window at which its users are asked for, where windows are cut in time."""
    requests: PositiveInt = 4_000
    """Requests at most, each of one user at one moment, drawn with the seed."""
    rows: PositiveInt = 300_000
    """Rows at most: everything taken, and as many of the other candidates of each request as there is room for."""
    folds: PositiveInt = 4
    """Where rows have no order, every user's rows are cut into so many parts, and each is foretold from the others."""
    leaves: PositiveInt = Field(15, ge=2)
    """Leaves a tree."""
    rounds: PositiveInt = 120
    """Trees."""
    learning_rate: PositiveFloat = 0.07
    """Weight of each tree."""
    min_rows_in_leaf: PositiveInt = 50
    """Fewest rows in a leaf."""
    feature_share: float = Field(0.7, gt=0, le=1)
    """Share of the features that a tree may use."""
    row_share: float = Field(0.8, gt=0, le=1)
    """Share of the rows that a tree sees."""
    l2: NonNegativeFloat = 5.0
    """Ridge penalty on the leaves."""


class HeavyConfig(Section):
    """What every kind of heavy ranker takes."""

    min_positives: PositiveInt = 5
    """Actions with fewer positives in the training window get no head."""
    task_weights: dict[str, NonNegativeFloat] = {}
    """Weight of a task's loss, 1 where not named, 0 for no head; `dwell` is the dwell head."""
    dwell: bool = True
    """Whether to learn dwell time where the dataset has it."""
    max_rows: PositiveInt = 20_000_000
    """Training rows used at most, the latest ones."""
    calibration: Literal["auto", "none", "temperature", "platt", "isotonic"] = "auto"
    """How probabilities are corrected on validation rows; auto takes what has the best cross-fitted log loss."""
    calibration_min_positives: PositiveInt = 30
    """Heads with fewer positives on validation stay uncorrected."""


def refuse_common(part: HeavyConfig, name: str, whole: str) -> None:
    """Raises ValueError where a part has a setting of its own that belongs to the whole ranker."""
    common = HeavyConfig()
    if twice := [f for f in HeavyConfig.model_fields if getattr(part, f) != getattr(common, f)]:
        raise ValueError(f"{', '.join(twice)} is for {whole}: set it beside {name}, not in it")


def with_common(part: HeavyConfig, whole: HeavyConfig, *, dwell: bool) -> HeavyConfig:
    """Settings of a part of a ranker with what every ranker takes from the whole."""
    common = {field: getattr(whole, field) for field in HeavyConfig.model_fields}
    return part.model_copy(update=common | {"dwell": dwell})


class LightGbmConfig(HeavyConfig):
    """Gradient-boosted trees, one LightGBM model an action (Ke et al., NeurIPS 2017); numbers and codes alike."""

    kind: Literal["lightgbm"] = "lightgbm"
    leaves: PositiveInt = Field(15, ge=2)
    """Leaves a tree."""
    leaves_rare: PositiveInt = Field(7, ge=2)
    """Leaves a tree for actions of less than a tenth of the rows."""
    learning_rate: PositiveFloat = 0.08
    """Weight of each tree."""
    rounds: PositiveInt = 400
    """Most trees of a model."""
    patience: PositiveInt = 60
    """Trees without a better validation figure before a model stops."""
    min_rows_in_leaf: PositiveInt = 100
    """Fewest rows in a leaf."""
    feature_share: float = Field(0.4, gt=0, le=1)
    """Share of the features that a tree may use."""
    row_share: float = Field(0.8, gt=0, le=1)
    """Share of the rows that a tree sees."""
    l2: NonNegativeFloat = 10.0
    """Ridge penalty on the leaves."""
    bins: PositiveInt = Field(63, ge=2, le=65_535)
    """Values of a feature that are told apart."""
    bags: PositiveInt = 1
    """Models of different seeds whose scores are averaged."""


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
    seeds: PositiveInt = 1
    """Rankers trained from different seeds to report the mean and spread of each head's AUC; the first is kept."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU where there is one."""
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


class SharedBottomConfig(HeavyNetworkConfig):
    """One trunk shared by all tasks, one head a task (Caruana, Machine Learning 28, 1997)."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the trunk's layers."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class MmoeConfig(HeavyNetworkConfig):
    """Multi-gate mixture of experts (Ma et al., KDD 2018)."""

    kind: Literal["mmoe"] = "mmoe"
    experts: PositiveInt = 2
    """Expert networks that all tasks share."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of each expert's layers."""
    head: NonNegativeInt = 32
    """Width of a hidden layer in each head; 0 for none."""


class PleConfig(HeavyNetworkConfig):
    """Progressive layered extraction (Tang et al., RecSys 2020)."""

    kind: Literal["ple"] = "ple"
    shared_experts: PositiveInt = 2
    """Expert layers a level that all tasks share, beside one of each task."""
    hidden: list[PositiveInt] = Field([128, 32], min_length=1)
    """Width of the experts of each level."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class DcnConfig(HeavyNetworkConfig):
    """Deep and cross network, version 2, with cross layers of low rank (Wang et al., WWW 2021)."""

    kind: Literal["dcn_v2"] = "dcn_v2"
    cross_layers: PositiveInt = 2
    """Layers that multiply the input with what came before."""
    rank: PositiveInt = 32
    """Rank of their matrices."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the MLP beside them."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class MaskNetConfig(HeavyNetworkConfig):
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
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class WideDeepConfig(HeavyNetworkConfig):
    """Wide and deep (Cheng et al., DLRS 2016)."""

    kind: Literal["wide_deep"] = "wide_deep"
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the deep side."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 keeps the wide side linear."""


class DeepFmConfig(HeavyNetworkConfig):
    """Factorisation machine and MLP on one input (Guo et al., IJCAI 2017)."""

    kind: Literal["deepfm"] = "deepfm"
    factors: PositiveInt = 16
    """Factors of each input."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the deep side."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class EsmmConfig(HeavyNetworkConfig):
    """Entire-space model: P(action) = P(first) · P(action | first), all rows train both (Ma et al., SIGIR 2018)."""

    kind: Literal["esmm"] = "esmm"
    first: str | None = None
    """Action of the first stage; empty for click, or without one the commonest action."""
    behind: list[str] | None = None
    """Actions that need the first; empty for those which hardly occur without it in the training rows."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of each of the two towers."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class FmConfig(HeavyNetworkConfig):
    """Factorisation machine: a linear model and every product of two inputs, by factors (Rendle, ICDM 2010)."""

    kind: Literal["fm"] = "fm"
    factors: PositiveInt = 8
    """Factors of each input, for each task."""


class NcfConfig(HeavyNetworkConfig):
    """Neural collaborative filtering: products of user and item factors beside an MLP (He et al., WWW 2017)."""

    kind: Literal["ncf"] = "ncf"
    ids: list[Literal["user", "item", "author"]] = ["user", "item"]
    """Ids that enter as hashed embeddings, half of their width for the products and half for the MLP."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the MLP over ids and features."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if not {"user", "item"} <= set(self.ids):
            raise ValueError("ncf needs user and item among its ids")
        if self.id_dim % 2:
            raise ValueError("ncf needs an even id_dim")
        return self


class DinConfig(HeavyNetworkConfig):
    """Attention from the candidate to the user's last interactions, then an MLP (Zhou et al., KDD 2018)."""

    kind: Literal["din"] = "din"
    history: Literal["din"] = "din"
    """What reads the user's last interactions."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the MLP."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class TransformerConfig(HeavyNetworkConfig):
    """Transformer over the user's last interactions with candidates isolated, then an MLP (as in X's Phoenix)."""

    kind: Literal["transformer"] = "transformer"
    history: Literal["transformer"] = "transformer"
    """What reads the user's last interactions."""
    hidden: list[PositiveInt] = [256, 64]
    """Widths of the MLP."""
    head: NonNegativeInt = 0
    """Width of a hidden layer in each head; 0 for none."""


class LambdaMartConfig(LightGbmConfig):
    """LambdaMART (Burges, MSR-TR-2010-82): one LightGBM ensemble that orders what a user was shown at one moment by
    what it was worth; the probability of each action is a logistic of its score."""

    kind: Literal["lambdamart"] = "lambdamart"
    gains: dict[str, NonNegativeFloat] = {
        "click": 0.5, "like": 1.0, "repost": 1.5, "reply": 3.0, "follow": 4.0, "share": 2.0, "profile_click": 2.0,
        "long_view": 1.0, "favorite": 2.0, "purchase": 5.0, "hide": 5.0, "mute": 10.0, "block": 15.0, "report": 20.0,
    }
    """Worth of each action; negative actions are subtracted, and nothing is worth less than nothing."""
    truncation: PositiveInt = 10
    """Places of the order that count."""


class BaselineConfig(Section):
    """Boosted trees beside the heavy ranker: what every report compares it with."""

    enabled: bool = True
    """Whether to fit them."""
    rounds: PositiveInt = 80
    """Most trees an action."""
    learning_rate: PositiveFloat = 0.2
    """Weight of each tree."""
    patience: PositiveInt = 10
    """Trees without a better validation figure before an action's stop."""
    max_rows: PositiveInt = 200_000
    """Training rows used at most, the latest ones."""


Network = (
    SharedBottomConfig
    | MmoeConfig
    | PleConfig
    | DcnConfig
    | MaskNetConfig
    | WideDeepConfig
    | DeepFmConfig
    | EsmmConfig
    | FmConfig
    | NcfConfig
    | DinConfig
    | TransformerConfig
)


class EnsembleConfig(HeavyConfig):
    """A network and LightGBM's trees; the weighted mean of their log-odds, calibrated as one. Dwell time is the
    network's."""

    kind: Literal["ensemble"] = "ensemble"
    network: Annotated[Network, Field(discriminator="kind")] = SharedBottomConfig()
    """The network, by kind. What every heavy ranker takes (min_positives, calibration, …) is set beside it."""
    trees: LightGbmConfig = LightGbmConfig()
    """The trees."""
    trees_share: float = Field(0.5, gt=0, lt=1)
    """Weight of the trees' log-odds; the network has the rest."""

    @model_validator(mode="after")
    def _common_settings_beside_the_parts(self) -> EnsembleConfig:
        for name, part in (("network", self.network), ("trees", self.trees)):
            refuse_common(part, name, "the whole ensemble")
            if name == "network" and part.seeds > 1:
                raise ValueError("seeds is not for the network of an ensemble; train it alone to see their spread")
        return self

    def part(self, name: Literal["network", "trees"]) -> HeavyConfig:
        """Settings of a part with those of the whole in place."""
        return with_common(getattr(self, name), self, dwell=self.dwell and name == "network")


HeavyRankerConfig = Annotated[
    Network | LightGbmConfig | LambdaMartConfig | EnsembleConfig, Field(discriminator="kind")
]


class RankingConfig(Section):
    """Light and heavy ranking."""

    light: LightRankerConfig = LightRankerConfig()
    heavy: HeavyRankerConfig = SharedBottomConfig()
    """The heavy ranker, by kind."""
    precision: Literal["float32", "int8"] = "float32"
    """How the heavy network is served; int8 is smaller and faster, and training states what it costs in ROC-AUC."""
    baseline: BaselineConfig = BaselineConfig()
    relevance: RelevanceConfig = RelevanceConfig()
    choose: str = "auto"
    """What orders the lists: "auto" takes what is best on the validation window among every source, "merge", "fusion",
    "light", "relevance" and "heavy"; or one of these."""
