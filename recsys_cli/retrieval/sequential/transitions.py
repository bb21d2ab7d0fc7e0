"""What came after what: transitions between the items of people's histories, over gaps."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.data.ragged import Ragged
from recsys_cli.data.schema import DAY
from recsys_cli.progress import Progress
from recsys_cli.retrieval.linear.graph_filter import powered
from recsys_cli.retrieval.linear.item_filter import strongest
from recsys_cli.retrieval.sequential.gaps import decayed, gap_sums
from recsys_cli.retrieval.sequential.ordered import Decay, OrderedConfig, OrderedFilter, RowStack


class TransitionConfig(OrderedConfig):
    """What transitions of both kinds have."""

    query_decay: Decay = 0.9
    """What an event counts of the one after it when asked; 1 makes all equal."""
    gaps: PositiveInt = 50
    """Places after an event up to which what follows counts."""
    smoothing: NonNegativeFloat = 100.0
    """Added to the sum of an item's transitions before they are divided by it: the rare are trusted less."""
    interval_half_life_days: PositiveFloat | None = None
    """Days between two events at which what follows counts half of what its place says (as TALE weighs intervals, Park
    et al., WSDM 2025); null leaves time out."""
    popularity_exponent: float = -0.3
    """Power of an item's number of interactions by which its score is multiplied; below 0 tempers the popular."""


class MarkovConfig(TransitionConfig):
    """Markov chain of the first and higher orders, mixed: transitions over gaps that fade with the gap."""

    kind: Literal["markov"] = "markov"
    gap_decay: Decay = 0.97
    """What a transition over a gap counts of one over a gap shorter by one place; 1 makes all equal."""


class SequentialRulesConfig(TransitionConfig):
    """Sequential rules: of weight 1 / gap, asked with the last few events (Kamehkhosh et al., 2017; Ludewig
    and Jannach, UMUAI 2018)."""

    kind: Literal["sequential_rules"] = "sequential_rules"
    history: PositiveInt = 10
    """Latest events of a user that are asked with; 1 is the rule as published."""
    query_decay: Decay = 0.8
    """What an event counts of the one after it when asked; 1 makes all equal."""
    gaps: PositiveInt = 10
    """Places after an event up to which what follows counts."""
    smoothing: NonNegativeFloat = 0.0
    """Added to the sum of an item's transitions before they are divided by it: the rare are trusted less."""
    popularity_exponent: float = 0.0
    """Power of an item's number of interactions by which its score is multiplied; below 0 tempers the popular."""


class Transitions(OrderedFilter):
    """B[i, j] = c_j^p · Σ w(gap) / (Σ of row i + smoothing), over the pairs of events i, then j, of one user.

    c_j is the number of interactions of j and p the exponent of popularity; w fades with the time between the two as
    well where `interval_half_life_days` says so.
    """

    positive: ClassVar = True
    config: TransitionConfig

    def memories(self) -> tuple[float, ...]:
        return (self.config.query_decay,)

    def gap_weights(self) -> np.ndarray:
        """float64[gaps], for gaps of 1, 2, …"""
        raise NotImplementedError

    def learn(
        self, histories: Ragged, times: np.ndarray, n_items: int, progress: Progress
    ) -> dict[str, np.ndarray]:
        c = self.config
        timed = {} if c.interval_half_life_days is None else {
            "times": times, "half_life": c.interval_half_life_days * DAY,
        }
        count = np.bincount(histories.values, minlength=n_items)
        tempered = powered(count, c.popularity_exponent)
        stack = RowStack.empty()
        for _, (rows,) in gap_sums(histories, [self.gap_weights()[:, None]], 1, n_items, **timed):
            total = np.asarray(rows.sum(axis=1)).ravel() + c.smoothing
            each = np.diff(rows.indptr)
            rows.data *= tempered[rows.indices] / np.repeat(total, each)
            stack.add(strongest(rows, c.neighbours))
        return stack.arrays(count > 0)


class Markov(Transitions):
    """w(gap) = decay^(gap − 1)."""

    config_type: ClassVar = MarkovConfig
    config: MarkovConfig

    def gap_weights(self) -> np.ndarray:
        return decayed(self.config.gap_decay, self.config.gaps)


class SequentialRules(Transitions):
    """w(gap) = 1 / gap."""

    config_type: ClassVar = SequentialRulesConfig

    def gap_weights(self) -> np.ndarray:
        return 1.0 / np.arange(1, self.config.gaps + 1)
