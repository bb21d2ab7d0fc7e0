"""A pipeline from its configuration: which stages, in which order, in which parts of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from recsys_cli.errors import ConfigError, UsageError, did_you_mean
from recsys_cli.pipeline.added import STAGE_KINDS
from recsys_cli.pipeline.bundle import Bundle
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.order import Order
from recsys_cli.pipeline.order_scores import resolve_order
from recsys_cli.pipeline.registry import STAGES, Setup
from recsys_cli.pipeline.rules.stages import RULE_KINDS, rule_stages
from recsys_cli.pipeline.sequence import check_sequence, usual_sequence
from recsys_cli.pipeline.stage import Filter, Scorer, Source, Stage
from recsys_cli.safety.policy import SafetyRules

Stages = tuple[Stage, ...]


@dataclass(frozen=True)
class Pipeline:
    """The stages of a request, in the five parts that it has."""

    sourcing: Stages
    """what proposes candidates"""
    filtering: Stages
    """what takes candidates out, up to where short lists are filled up"""
    completion: Stages
    """what fills up short lists and says what is known of every candidate"""
    ranking: Stages
    """from the first scorer to the last: candidates in their order"""
    selection: Stages
    """from the order to the slate"""
    rules: SafetyRules | None
    """safety rules that act; None where none can"""

    @classmethod
    def of(cls, stages: list[Stage], rules: SafetyRules | None = None) -> Pipeline:
        """Stages in an order that `check_sequence` lets pass, cut into the parts."""
        kinds = [next(k for k in (Source, Scorer, Stage) if isinstance(stage, k)) for stage in stages]
        scorers = [i for i, kind in enumerate(kinds) if kind is Scorer]
        ranked, selected = scorers[0], scorers[-1] + 1
        sourced = next(i for i, kind in enumerate(kinds) if kind is not Source)
        filled = next((i for i in range(sourced, ranked) if kinds[i] is Source), ranked)
        cuts = (0, sourced, filled, ranked, selected, len(stages))
        sourcing, filtering, completion, ranking, selection = (tuple(stages[a:b]) for a, b in pairwise(cuts))
        return cls(sourcing, filtering, completion, ranking, selection, rules)

    @property
    def gathering(self) -> Stages:
        """Everything before ranking: the candidates with what is known of them."""
        return self.sourcing + self.filtering + self.completion

    @property
    def stages(self) -> Stages:
        """All of them, in their order."""
        return self.gathering + self.ranking + self.selection

    @property
    def notes(self) -> list[str]:
        """What the stages could not take as it was given."""
        return [note for stage in self.stages for note in stage.notes]

    def require(self, *, adventure: float | None, served: np.ndarray | None) -> None:
        """Raises UsageError where a request asks for what no stage here reads, or for what is out of bounds."""
        if adventure is not None and not -1 <= adventure <= 1:
            raise UsageError(f"adventure {adventure:g} is out of bounds", "from -1, familiar, to 1, adventurous")
        for asked, value in (("adventure", adventure), ("served", served)):
            if value is not None and not any(asked in stage.asks and not stage.aside for stage in self.stages):
                hint = f"add one, as in pipeline.stages: {{{asked}: {{kind: {asked}}}}}"
                raise UsageError(f"no stage of this pipeline reads {asked!r}", hint)

    def without(self, names: frozenset[str]) -> frozenset[str]:
        """The names of stages that a request leaves out; raises UsageError for one that is not here or is needed."""
        known = {stage.name: stage for stage in self.stages}
        can = [name for name, stage in known.items() if not stage.needed]
        for name in sorted(names):
            if name not in can:
                told = "is needed for every slate" if name in known else "is not in this pipeline"
                hint = did_you_mean(name, can, f"can be left out: {', '.join(can)}")
                raise UsageError(f"stage {name!r} {told}", hint)
        return names


def _passed_again(kind: type[Stage]) -> bool:
    """Whether what comes later in a request passes stages of this kind as well."""
    return issubclass(kind, Filter) and kind.again


def build_pipeline(
    config: PipelineConfig, bundle: Bundle, order: Order | None = None, kinds: Mapping[str, type[Stage]] = STAGE_KINDS
) -> Pipeline:
    """Sources, filters, light ranking, hydration, heavy ranking, safety policy, utility, exploration, caps, the last
    checks, selection, in the order of the settings; raises ConfigError where the configuration names a source, a
    score, an attribute or a stage that is not there or an order that cannot be, and DataError where a file of personal
    weights is not one.

    order: what orders the candidates, in place of what the settings and the run say. kinds: `kind` → class, of the
    stages that settings add.
    """
    setup = Setup(config, bundle, resolve_order(config, bundle) if order is None else order)
    make: dict[str, Callable[[], Stage | None]] = {name: partial(entry.make, setup) for name, entry in STAGES.items()}
    added = {}
    for name, settings in (config.stages | rule_stages(config.rules)).items():
        if name in STAGES or (name in config.stages and name in RULE_KINDS):
            raise ConfigError(f"pipeline.stages: there is a stage {name!r} already", "give it another name")
        added[name] = RULE_KINDS.get(settings.kind) or kinds[settings.kind]
        make[name] = partial(added[name], settings)
    built_in = {name: entry.kind for name, entry in STAGES.items()}
    classes = built_in | added
    names = config.sequence or usual_sequence(built_in, added)
    check_sequence(names, classes)
    made: dict[str, Stage | None] = {}
    # what everything has to pass is made first: others are made with it
    for name in sorted(names, key=lambda n: not _passed_again(classes[n])):
        made[name] = stage = make[name]()
        if stage is None:
            continue
        if name in added:
            stage.name = name
            if lack := stage.prepare(bundle):  # once its name is known, by which it is told
                stage.aside = True
                stage.notes = (*stage.notes, f"stage {name} steps aside: it {lack}")
        if isinstance(stage, Filter) and stage.again:
            setup.filters.append(stage)
    stages = [stage for name in names if (stage := made[name]) is not None]
    for place, stage in enumerate(stages):
        stage.followed_by(stages[place + 1 :])
    return Pipeline.of(stages, setup.rules)
