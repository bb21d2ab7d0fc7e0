"""Settings of one source chosen on what people turned to next: weights of a history, and what a family says to try.

The weights first, the rest with these weights: what suits a history that counts evenly does not suit one in which
the newest items are nearly all (a ridge regression then wants twice the penalty).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import NonNegativeFloat

from recsys_cli.config import Section
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.metrics import list_ndcg
from recsys_cli.retrieval.base import Retriever
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.history_weighting import HistoryWeighting, RecencyWeighting

MOST_USERS = 1_000
"""Users that a source is asked for at most."""
DECAYS = (0.97, 0.95, 0.9, 0.85, 0.8)
"""Tried of an item's weight relative to the next newer one's."""
SPANS = (1 / 32, 1 / 8, 1 / 2)
"""Half-lives tried, as shares of the time that half of the histories span."""
NOISE = 2.0
"""Standard errors of the paired difference that an alternative must be ahead by."""


class TuningConfig(Section):
    """Settings of the sources chosen on the ranker's window."""

    enabled: bool = True
    """Whether weights of histories and what else a source's family says to try are chosen there; without it "auto"
    weighs histories evenly."""
    budget_seconds: NonNegativeFloat = 30.0
    """Processor time for trying other settings of the sources, over all of them; their histories' weights are always
    chosen."""


@dataclass(frozen=True)
class Question:
    """Whom a source is asked for, and what they turned to afterwards.

    users: int32[U]; wanted: items of each, ascending, each once; k: places of the list that count.
    """

    state: State
    users: np.ndarray
    wanted: Ragged
    k: int

    @classmethod
    def of(cls, state: State, users: np.ndarray, wanted: Ragged, k: int) -> Question:
        """Of at most MOST_USERS users, evenly taken from those with something to find."""
        some = np.flatnonzero(wanted.lengths > 0)
        if len(some) > MOST_USERS:
            some = some[np.linspace(0, len(some) - 1, MOST_USERS).astype(np.int64)]
        places, items = wanted.take(some)
        return cls(
            state, np.asarray(users, np.int32)[some], Ragged.group(places, items, len(some)).sorted_rows(), k
        )

    def ndcg(self, source: Retriever) -> np.ndarray:
        """float64[U] NDCG@k of the source's own list; the ideal list has min(k, wanted) hits."""
        items = source.retrieve(self.state, self.users, self.k)[0]
        return list_ndcg(items, self.wanted, self.k)


def ahead(alternative: np.ndarray, usual: np.ndarray) -> bool:
    """Whether figures of the same users float64[U] differ by more than noise in favour of the first."""
    gain = alternative - usual
    if len(gain) < 2:
        return False
    return bool(gain.mean() > max(NOISE * gain.std(ddof=1) / np.sqrt(len(gain)), 1e-12))


def choose_history_weighting(
    source: Retriever, state: State, users: np.ndarray, wanted: Ragged, k: int = 10, *, ordered: bool = True,
    usual: np.ndarray | None = None,
) -> tuple[RetrieverConfig, dict[str, float]]:
    """The settings of a fitted source with "auto" of its `history_weighting` settled, and NDCG@k of what was tried.

    state: as of the moment after which the items wanted (one row a user of `users` int32[U]) were turned to; neither
    may be known to the fit. ordered: whether the rows have an order; where they have none all of a history is equally
    near. Uniform stays unless another is ahead by more than noise; then the best does. A source
    whose settings leave nothing open is returned as it is, with no figures. usual: NDCG@k of the source as it is, which
    "auto" weighs evenly, where it is known already.
    """
    weighting = _open_weighting(source.config)
    if weighting is None:
        return source.config, {}
    question, figures = Question.of(state, users, wanted, k), {}

    def best(options: dict[str, RecencyWeighting]) -> RecencyWeighting:
        """The first of them unless another is ahead."""
        measured = {
            name: usual if option.uniform and usual is not None else question.ndcg(source.reweighted(option))
            for name, option in options.items()
        }
        figures.update({name: float(each.mean()) if len(each) else 0.0 for name, each in measured.items()})
        first, *others = options
        leading = [name for name in others if ahead(measured[name], measured[first])]
        return options[max(leading, key=figures.__getitem__, default=first)]

    if weighting.kind == "auto":
        recencies = _recencies(weighting, state, question.users)
        weighting = best(recencies if ordered else {"uniform": recencies["uniform"]})
    if getattr(weighting, "strength", None) == "auto":
        plain = weighting.model_copy(update={"strength": "none"})
        ways = ["repeats"] if _comes_back(state, question.users) else []
        options = {"strength none": plain}
        for name in (*ways, *state.history_numbers):
            options[f"strength {name}"] = weighting.model_copy(update={"strength": name})
        weighting = best(options) if len(options) > 1 else plain
    return source.reweighted(weighting).config, figures


def _open_weighting(config: RetrieverConfig) -> RecencyWeighting | None:
    """What of a source's weighting training may settle; None where nothing is."""
    if hasattr(config, "parts"):
        free = any(part.history_weighting.kind == "auto" for part in config.parts.values())
        return HistoryWeighting() if free else None
    weighting = getattr(config, "history_weighting", None)
    if weighting is None or "auto" not in (weighting.kind, getattr(weighting, "strength", None)):
        return None
    return weighting


def _recencies(weighting: RecencyWeighting, state: State, users: np.ndarray) -> dict[str, RecencyWeighting]:
    """Uniform first, then decays by place and, where times are real, half-lives."""
    options = {"uniform": weighting.model_copy(update={"kind": "uniform"})}
    for decay in DECAYS:
        options[f"place {decay:g}"] = weighting.model_copy(update={"kind": "place", "decay": decay})
    for days in half_lives(state, users):
        options[f"time {days:g} d"] = weighting.model_copy(update={"kind": "time", "half_life_days": days})
    return options


def half_lives(state: State, users: np.ndarray) -> list[float]:
    """Days worth trying as a half-life: shares of the span of the users' histories.

    None where times tell nothing that places do not: all at one moment, or equally far apart, as in histories that
    came without times.
    """
    places, times = state.history_time.take(users)
    same = places[1:] == places[:-1]
    gaps = np.abs(np.diff(times)[same])
    if not len(gaps) or len(np.unique(gaps)) < 3:
        return []
    first = np.flatnonzero(np.diff(places, prepend=-1))
    span = float(np.median(np.maximum.reduceat(times, first) - np.minimum.reduceat(times, first))) / DAY
    return [float(f"{span * share:.2g}") for share in SPANS if span * share >= 1e-4]


def _comes_back(state: State, users: np.ndarray) -> bool:
    """Whether anybody's history holds an item more than once."""
    places, items = state.history.take(users)
    rows = Ragged.group(places, items, len(users))
    return len(rows.sorted_rows().values) < len(items)


def tune_source(
    make: Callable[[RetrieverConfig], Retriever],
    config: RetrieverConfig,
    alternatives: Sequence[RetrieverConfig],
    state: State,
    users: np.ndarray,
    wanted: Ragged,
    budget_seconds: float,
    k: int = 10,
) -> tuple[RetrieverConfig, list[dict]]:
    """The best of a source's settings by NDCG@k, the given ones unless another is ahead by more than noise.

    make: fits a source with the settings it is given, on what was known before the items wanted. alternatives: as
    `Retriever.alternatives` gives them. The given settings are always measured; an alternative is begun only while the
    time it should take, as the dearest so far took, fits the budget. Returns the settings and, as JSON, what was
    tried: {"settings": what differs from the given ones, "ndcg": mean or None where time ran out before, "gain": its
    mean difference, "error": the standard error of that, "seconds": of the processor, to fit and ask}, the given
    ones first.
    """
    question, began = Question.of(state, users, wanted, k), time.process_time()
    usual, dearest = np.zeros(0), 0.0
    best, best_ndcg, tried = config, -1.0, []
    for option in (config, *alternatives):
        entry = {"settings": _changed(config, option), "ndcg": None}
        tried.append(entry)
        start = time.process_time()
        if len(tried) > 1 and start - began + dearest > budget_seconds:
            continue
        each = question.ndcg(make(option))
        dearest = max(dearest, time.process_time() - start)
        usual = each if len(tried) == 1 else usual
        gain = each - usual
        error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else 0.0
        mean = float(each.mean()) if len(each) else 0.0
        entry |= {
            "ndcg": mean, "gain": float(gain.mean()) if len(gain) else 0.0, "error": error,
            "seconds": round(time.process_time() - start, 3),
        }  # fmt: skip
        if len(tried) == 1 or (mean > best_ndcg and ahead(each, usual)):
            best, best_ndcg = option, mean
    return best, tried


def _changed(config: RetrieverConfig, option: RetrieverConfig) -> dict:
    """The settings of `option` that differ, as JSON."""
    before, after = config.model_dump(mode="json"), option.model_dump(mode="json")
    return {name: value for name, value in after.items() if value != before.get(name)}
