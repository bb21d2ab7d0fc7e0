"""What an experiment YAML says: variants, who takes part, how long, what is measured, and when it is decided."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from recsys_cli.config import Section, merge, read_yaml, validate
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.experiments.metric_config import METRICS, MetricConfig
from recsys_cli.files import is_name

if TYPE_CHECKING:
    from recsys_cli.pipeline.config import PipelineConfig

Share = Annotated[float, Field(gt=0, le=1)]


class SplitConfig(Section):
    """How users are shared out."""

    control: PositiveFloat = 0.5
    """Part of the users in the control arm; both sum to one."""
    treatment: PositiveFloat = 0.5
    """Part of the users in the treatment arm."""


class VariantConfig(Section):
    """One variant: what differs from the configuration, and what a log calls it."""

    pipeline: dict[str, Any] = {}
    """Settings of `pipeline` that differ from the configuration."""
    run: str | None = None
    """Run that serves it; null for the one in use."""
    share: Share | None = None
    """Part of the users; all or none of the variants have one, and they sum to one. Equal parts by default."""
    called: str | None = None
    """What a log calls it, where that is not its name."""


def _as_variant(value: Any) -> Any:
    """A word alone is what a log calls the variant; YAML reads some words as truth values or numbers."""
    return {"called": str(value)} if isinstance(value, str | bool | int) else value


def _by_name(value: Any) -> Any:
    """A built-in metric for its name."""
    if not isinstance(value, str):
        return value
    if value not in METRICS:
        raise ValueError(f"no metric {value!r}; " + did_you_mean(value, METRICS, f"there are {', '.join(METRICS)}"))
    return METRICS[value]


class LayerConfig(Section):
    """Experiments of one layer share its users out among them and so never meet; layers are independent."""

    name: str
    """Users are placed in [0, 1) by a hash of their id and this name."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """First place of the layer that belongs to this experiment."""
    end: Share = 1.0
    """End of this experiment's places, not included."""

    @model_validator(mode="after")
    def _rises(self) -> LayerConfig:
        if self.end <= self.start:
            raise ValueError("end must be above start")
        return self


class ExperimentConfig(Section):
    """A controlled experiment."""

    name: str
    """Part of the hash that assigns users: another name is another split."""
    version: PositiveInt = 1
    """A started experiment is frozen; a change needs the next version. Each version splits users anew."""
    description: str = ""
    """What is tried and why."""
    hypothesis: str = ""
    """What is expected to happen, told before it starts."""
    control: dict[str, Any] = {}
    """Settings of `pipeline` that differ from the configuration in the control arm."""
    treatment: dict[str, Any] = {}
    """Settings of `pipeline` that differ from the configuration in the treatment arm."""
    split: SplitConfig = SplitConfig()
    """Shares of the two arms."""
    variants: dict[str, Annotated[VariantConfig, BeforeValidator(_as_variant)]] = {}
    """Two or more variants instead of control, treatment and split, the control first; or what a log calls the two."""
    unit: Literal["user", "cluster"] = "user"
    """What is assigned and analysed whole: users, or clusters of users who influence each other (column cluster_id)."""
    traffic: Share = 1.0
    """Share of all users who take part."""
    ramp: dict[Annotated[int, Field(ge=1)], Share] = {}
    """Day from which a share of `traffic` takes part: {1: 0.05, 3: 0.5, 5: 1}. Nobody changes variant."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of users who are in no experiment that names a holdout."""
    layer: LayerConfig | None = None
    """Experiments that must not meet stand in one layer with places that do not overlap."""
    targeting: dict[str, Annotated[tuple[str | int | float | bool, ...], Field(min_length=1)]] = {}
    """Attribute → values of users who take part."""
    salt: str = ""
    """Changes the assignment without changing the name."""
    days: PositiveInt = 7
    """Days that the experiment lasts."""
    metrics: Annotated[tuple[Annotated[MetricConfig, BeforeValidator(_by_name)], ...], Field(min_length=1)] = (
        "ctr",
        "like_rate",
        "engagement_per_user",
        "dwell_per_user",
        "sessions_per_user",
        "return_rate",
        "negative_rate",
        "topics_per_slate",
        "authors_per_slate",
    )
    """What is compared: names of built-in metrics, or metrics of one's own."""
    primary: str | None = None
    """The metric that decides; the first one by default."""
    guardrails: dict[str, Annotated[float, Field(ge=0, lt=1)]] = {}
    """Metric → relative harm beyond which a variant is rolled back, if it is shown to be beyond it."""
    most_answers: dict[str, PositiveInt] = {}
    """Variant → answers after which a server stops the experiment by itself; counted anew when it starts again."""
    practical_effect: Annotated[float, Field(ge=0)] = 0.0
    """Smallest relative improvement of the primary metric that is worth shipping."""
    planned_effect: PositiveFloat | None = None
    """Relative effect of the primary metric that the experiment is to find; for `plan`."""
    stop: Literal["fixed", "always_valid", "group_sequential"] = "fixed"
    """When it may be decided: at the end, on any day (confidence sequence), or daily against spent α (boundaries)."""
    correction: Literal["benjamini_hochberg", "holm"] = "benjamini_hochberg"
    """How p-values of several metrics and variants are corrected."""
    segments: tuple[str, ...] = ()
    """Columns of a log by which the primary metric's effect is told apart."""
    interleave: Literal["team_draft", "optimised"] | None = None
    """How a server mixes the lists of all variants for everybody who takes part; null: each user has one variant."""
    earlier: tuple[str, ...] = ()
    """Columns of a log with each user's variant in an earlier experiment, for the check of what that left behind."""
    shared_state: bool = False
    """Simulated variants learn from one log of all users, as in production; off: each from its own users."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Significance level; intervals have the confidence 1 − alpha."""
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """Power for which the smallest detectable effect is given."""
    min_users: Annotated[int, Field(ge=2)] = 50
    """Units that each arm must have."""
    max_crossovers: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of users in several variants above which a log is refused; below it they are left out and counted."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError("must be a name of letters, digits, '-', '_' and '.', for it names a folder")
        return value

    @field_validator("metrics")
    @classmethod
    def _different(cls, value: tuple) -> tuple:
        names = [m.name for m in value]
        if len(set(names)) < len(names):
            raise ValueError("two metrics have the same name")
        return value

    @model_validator(mode="after")
    def _named_metrics(self) -> ExperimentConfig:
        names = [m.name for m in self.metrics]
        for key, wanted in [("primary", [self.primary] if self.primary else []), ("guardrails", [*self.guardrails])]:
            for name in wanted:
                if name not in names:
                    raise ValueError(f"{key} {name!r} is none of the metrics {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _named_variants(self) -> ExperimentConfig:
        for name in self.most_answers:
            if name not in [arm.name for arm in self.arms]:
                raise ValueError(f"most_answers: {name!r} is no variant")
        return self

    @model_validator(mode="after")
    def _shares(self) -> ExperimentConfig:
        if not self.explicit:
            shares = [self.split.control, self.split.treatment]
        else:
            if self.control or self.treatment or self.split != SplitConfig():
                raise ValueError("variants stand instead of control, treatment and split: give either")
            if len(self.variants) < 2:
                raise ValueError("variants: an experiment has two or more")
            given = [v.share for v in self.variants.values() if v.share is not None]
            if given and len(given) < len(self.variants):
                raise ValueError("variants: all of them have a share, or none")
            shares = given or [1.0]
        if abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"shares of the variants sum to {sum(shares):.6g}, not to 1")
        if list(self.ramp) != sorted(self.ramp) or list(self.ramp.values()) != sorted(self.ramp.values()):
            raise ValueError("ramp: days and shares must rise")
        if self.interleave == "optimised" and len(self.arms) > 2:
            raise ValueError("interleave: optimised mixes two variants; team_draft mixes any number")
        words = [a.called for a in self.arms]
        if len(set(words)) < len(words):
            raise ValueError("variants: a log cannot call two of them the same")
        return self

    @property
    def explicit(self) -> bool:
        """Whether `variants` says everything, not only what a log calls control and treatment."""
        plain = all(v == VariantConfig(called=v.called) for v in self.variants.values())
        return bool(self.variants) and not (plain and set(self.variants) <= {"control", "treatment"})

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The variants, the control first."""
        if self.explicit:
            equal = 1 / len(self.variants)
            return tuple(
                Arm(name, v.pipeline, v.run, v.share or equal, v.called or name) for name, v in self.variants.items()
            )

        def called(name: str) -> str:
            return (self.variants[name].called if name in self.variants else None) or name

        return (
            Arm("control", self.control, None, self.split.control, called("control")),
            Arm("treatment", self.treatment, None, self.split.treatment, called("treatment")),
        )

    @property
    def deciding(self) -> str:
        return self.primary or self.metrics[0].name

    def traffic_of(self, day: int | None = None) -> float:
        """Share of users who take part on a day from 1 on; that of the end by default. Before the ramp nobody does."""
        if day is None or not self.ramp:
            return self.traffic * (max(self.ramp.values()) if self.ramp else 1.0)
        return self.traffic * max((share for start, share in self.ramp.items() if start <= day), default=0.0)

    @property
    def key(self) -> str:
        """What the hash of the assignment knows the experiment by."""
        return self.name if self.version == 1 else f"{self.name}@{self.version}"

    def digest(self) -> str:
        """Hexadecimal digest of everything that the experiment says."""
        said = self.model_dump(mode="json")
        if not self.most_answers:
            del said["most_answers"]  # experiments that were started before it could be said stay as they are
        text = json.dumps(said, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Arm:
    """A variant as it is served and counted."""

    name: str
    pipeline: dict[str, Any]
    """settings of `pipeline` that differ from the configuration"""
    run: str | None
    share: float
    called: str
    """what a log calls it"""


@dataclass(frozen=True)
class Experiment:
    """An experiment with the pipelines of its variants resolved."""

    config: ExperimentConfig
    pipelines: tuple[PipelineConfig, ...]

    @property
    def control(self) -> PipelineConfig:
        return self.pipelines[0]

    @property
    def treatment(self) -> PipelineConfig:
        return self.pipelines[1]


def read_experiment(path: str | Path, days: int | None = None) -> ExperimentConfig:
    """Read an experiment YAML. days: in place of those of the file. Raises ConfigError with the line."""
    content = read_yaml(Path(path))
    return validate(ExperimentConfig, content if days is None else {**content, "days": days}, Path(path))


def load_experiment(path: str | Path, base: PipelineConfig, days: int | None = None) -> Experiment:
    """Read an experiment YAML and lay its variants over the configured pipeline.

    days: in place of those of the file. Raises ConfigError with the line of the first problem.
    """
    path = Path(path)
    return resolve_pipelines(read_experiment(path, days), base, path)


def resolve_pipelines(config: ExperimentConfig, base: PipelineConfig, path: Path | None = None) -> Experiment:
    """Lay the variants of an experiment over the configured pipeline.

    path: its file, for messages. Raises ConfigError where an override is wrong, or all variants are the same though
    they say otherwise.
    """
    from pydantic import create_model

    from recsys_cli.pipeline.config import PipelineConfig

    below = base.model_dump(mode="json")
    merged = {arm.name: merge(below, arm.pipeline) for arm in config.arms}
    if config.explicit:
        one = create_model("_Variant", __base__=Section, pipeline=(PipelineConfig, ...))
        every = create_model("_Variants", __base__=Section, variants=(dict[str, one], ...))
        checked = validate(every, {"variants": {name: {"pipeline": p} for name, p in merged.items()}}, path)
        pipelines = tuple(checked.variants[name].pipeline for name in merged)
    else:
        both = create_model("_Arms", __base__=Section, **dict.fromkeys(merged, (PipelineConfig, ...)))
        checked = validate(both, merged, path)
        pipelines = tuple(getattr(checked, name) for name in merged)
    ways = list(zip(pipelines, [arm.run for arm in config.arms], strict=True))
    if all(way == ways[0] for way in ways) and any(arm.pipeline for arm in config.arms):
        names = " and ".join(merged)
        raise ConfigError(
            f"{path or config.name}: {names} are the same pipeline",
            "the override repeats what is configured; leave all of them empty for an A/A test",
        )
    return Experiment(config, pipelines)
