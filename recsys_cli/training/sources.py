"""Which candidate sources the data is for, and their settings: decided on the ranker's window, once for a dataset."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from recsys_cli.data.ragged import Ragged
from recsys_cli.files import write_bytes
from recsys_cli.pipeline.requests import new_items
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.retrieval.tuning import Question, choose_history_weighting, tune_source
from recsys_cli.training.warranted import unwarranted

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.data.state import State
    from recsys_cli.retrieval.base import Retriever, Window
    from recsys_cli.retrieval.config import RetrieverConfig
    from recsys_cli.training.job import TrainingJob

OF_OLD_ITEMS = (
    "ease", "graph_filter", "rp3beta", "markov", "linear_autoregressive", "sequential_rules", "slim", "user_neighbours",
    "svd", "session_neighbours", "repeat_consumption", "next_basket",
)
"""Kinds that know an item only once it was interacted with."""
OF_ORDER = ("markov", "linear_autoregressive", "sequential_rules", "session_neighbours", "next_basket")
"""Kinds that know nothing but what follows what."""
OF_SETS = ("slim", "user_neighbours", "svd")
"""Kinds that see a history as a set, and add to the others of their sort what order cannot."""
MOST_ROWS = 1_000_000
"""Interactions up to which they are fitted: they are fitted once for each part that is foretold."""
OF_NEW_ITEMS = ("two_tower",)
"""Kinds whose cost buys what cheaper ones lack: items and people that nobody has met."""
FEED, CATALOGUE = 1_500, 250
"""Candidates a user where much of what people turn to is new to everybody, and where little is."""
MOVING = 0.1
"""Share of it from which on data is a feed."""
WEAK = 0.3
"""A source left to the data is dropped where its own list has less than this share of the best one's NDCG@10."""
MUCH, LITTLE = 0.5, 0.02
"""Shares of what people turn to that has had no interaction before: from the first on the former kinds step aside,
below the second the latter."""


class Chosen(BaseModel):
    """What was chosen for one source, kept for the next training on the same data."""

    config: dict
    weightings: dict[str, float]
    """weights of histories tried → NDCG@10 of the source's list"""
    tried: list[dict]
    """other settings, as `tune_source` tells them"""


@dataclass(frozen=True)
class Answers:
    """Whom the sources are asked for on the ranker's window, and what those people turned to."""

    users: np.ndarray
    """int32[U]"""
    wanted: Ragged
    unmet: float
    """share of it that nobody had interacted with before"""


def answers_of(job: TrainingJob, window: Window) -> Answers:
    """New to their users and published, of the ranker's window."""
    log, w = job.lesson.dataset.log, job.lesson.windows
    later = log.window(w.history_end, w.validation_start)
    return Answers(*new_items(later, window.state, repeats=job.allows_seen), unmet_share(window.state, later))


def unmet_share(state: State, later: Log) -> float:
    """Share of what people turned to in the rows of `later` that nobody had interacted with at the state's moment."""
    touched = later.item[later.positive]
    return float((state.interactions[touched] == 0).mean()) if len(touched) else 0.0


def candidates_for(unmet: float) -> int:
    """Candidates a user where the settings leave it open, by the share of what nobody had interacted with."""
    return FEED if unmet >= MOVING else CATALOGUE


def wanted_kinds(job: TrainingJob, sources: dict[str, Retriever], answers: Answers) -> dict[str, Retriever]:
    """The sources without those that are left to the data (`enabled: auto`) and will not pay on it, which is noted."""
    out, aside = {}, {}
    closed_form = any(source.config.kind in ("ease", "als") for source in sources.values())
    for name, source in sources.items():
        why = _lacking(job, source, answers, closed_form) if source.config.enabled == "auto" else None
        if why is None:
            out[name] = source
        else:
            aside.setdefault(why, []).append(name)
    for why, names in aside.items():
        job.note(f"source{'s' * (len(names) > 1)} {', '.join(names)} left out: {why}")
    _tell_of_the_silent(job, out)
    return out


def _lacking(job: TrainingJob, source: Retriever, answers: Answers, closed_form: bool) -> str | None:
    """Why a source will not pay on this data; None where it may."""
    kind = source.config.kind
    if kind in OF_ORDER and not job.whole.manifest.has_order:
        return "the rows of this data have no order"
    if kind in OF_OLD_ITEMS and answers.unmet > MUCH:
        return f"{answers.unmet:.0%} of what people turn to has no interaction before, which they cannot know"
    if kind in OF_SETS and job.whole.manifest.has_order:
        return "the rows of this data have an order, which other sources know"
    if kind in OF_SETS and len(job.whole.log) > MOST_ROWS:
        return f"dear on {len(job.whole.log):,} rows, and cheaper sources are like it"
    if kind in OF_NEW_ITEMS and answers.unmet < LITTLE and closed_form:
        return f"{1 - answers.unmet:.1%} of what people turn to is known, which cheaper sources find as well"
    return unwarranted(job, source.config)


def _tell_of_the_silent(job: TrainingJob, sources: dict[str, Retriever]) -> None:
    """A note for each source that somebody enabled and that is not asked, beside others that are."""
    config = job.settings.pipeline.sourcing
    asked = config.curves if config.merge == "learned" else config.shares
    if not any(name in asked for name in sources):
        return
    for name, source in sources.items():
        if source.config.enabled is True and source.config.kind != "random" and name not in (*asked, *config.fallback):
            where = "curves" if config.merge == "learned" else "shares"
            job.note(f"source {name} proposes nothing of its own: pipeline.sourcing.{where} does not name it")


def without_weak(
    job: TrainingJob, fitted: dict[str, Retriever], window: Window, answers: Answers
) -> tuple[dict[str, Retriever], dict[str, np.ndarray]]:
    """The sources without those that are left to the data and find next to nothing of what people turned to; and
    float64[U] NDCG@10 of everyone's list by each."""
    if not len(answers.users):
        return fitted, {}
    question = Question.of(window.state, answers.users, answers.wanted, 10)
    each = {name: question.ndcg(source) for name, source in fitted.items()}
    figures = {name: float(found.mean()) for name, found in each.items()}
    best = max(figures.values())
    out = {}
    for name, source in fitted.items():
        if source.config.enabled == "auto" and figures[name] < WEAK * best:
            job.note(f"source {name} is dropped: its list has NDCG@10 {figures[name]:.4f}, the best one {best:.4f}")
        else:
            out[name] = source
    return out, each


def tune(
    job: TrainingJob, fitted: dict[str, Retriever], window: Window, answers: Answers, usual: dict[str, np.ndarray]
) -> dict[str, RetrieverConfig]:
    """Source → its settings with the weights of histories and what else was found better on the ranker's window.

    usual: what `without_weak` found of each as it is. What was chosen is kept under the artifacts for the same data,
    windows and settings.
    """
    config = job.settings.tuning
    if not config.enabled or not len(answers.users):
        return {name: source.config for name, source in fitted.items()}
    out, told = {}, job.metrics.setdefault("tuning", {})
    left = config.budget_seconds
    with job.progress.step("settings of sources", total=len(fitted)) as bar:
        for name, source in fitted.items():
            bar.describe(name)
            start = time.process_time()
            # in a feed co-occurrence is old news: other settings of such sources move nothing
            found = _choose(source, window, answers, left if answers.unmet < MUCH else 0.0, job, usual.get(name))
            left = max(left - (time.process_time() - start), 0.0)
            _remember(job, source, found)
            out[name] = _config_of(source, found)
            if found.weightings or found.tried:
                told[name] = _told(source, found, remembered=False)
            bar.advance()
    return out


def remembered(job: TrainingJob, sources: dict[str, Retriever]) -> dict[str, RetrieverConfig]:
    """Source → the settings that an earlier training on the same data, windows and settings chose."""
    out, told = {}, job.metrics.setdefault("tuning", {})
    for name, source in sources.items():
        found = _remembered(job, source) if job.settings.tuning.enabled else None
        if found is not None:
            out[name] = _config_of(source, found)
            told[name] = _told(source, found, remembered=True)
    return out


def _config_of(source: Retriever, found: Chosen) -> RetrieverConfig:
    return SOURCES[source.config.kind].config_type.model_validate(found.config)


def _told(source: Retriever, found: Chosen, *, remembered: bool) -> dict:
    settings = _changed(source.config, _config_of(source, found))
    return {
        "weightings": found.weightings, "tried": found.tried, "settings": settings, "remembered": remembered,
    }


def _changed(before: RetrieverConfig, after: RetrieverConfig) -> dict:
    was, now = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {name: value for name, value in now.items() if value != was[name]}


def _choose(
    source: Retriever, window: Window, answers: Answers, budget: float, job: TrainingJob, usual: np.ndarray | None
) -> Chosen:
    config, weightings = choose_history_weighting(
        source, window.state, answers.users, answers.wanted, ordered=job.whole.manifest.has_order, usual=usual
    )
    given = _changed(type(source.config)(), source.config)
    options, tried = type(source).alternatives(config), []
    # what somebody has set stays
    alternatives = [option for option in options if not given.keys() & _changed(config, option).keys()]
    if alternatives and budget > 0:

        def make(option: RetrieverConfig) -> Retriever:
            if option == source.config:
                return source
            if option == config and weighting is not None:  # fitted already, whatever the weights of histories
                return source.reweighted(weighting)
            fresh = type(source)(option)
            fresh.fit(window, job.progress)
            return fresh

        weighting = getattr(config, "history_weighting", None)
        config, tried = tune_source(
            make, config, alternatives, window.state, answers.users, answers.wanted, budget
        )
    return Chosen(config=config.model_dump(mode="json"), weightings=weightings, tried=tried)


def _place(job: TrainingJob, source: Retriever):
    """Where a choice is kept: one file for the data, the windows, the seed and the settings of the source."""
    parts = (job.lesson.windows, source.config, job.settings.tuning)
    known = [job.dataset.manifest.digest, job.settings.seed, *(part.model_dump(mode="json") for part in parts)]
    text = orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
    return job.store.folder / "tuning" / f"{hashlib.blake2b(text, digest_size=12).hexdigest()}.json"


def _remembered(job: TrainingJob, source: Retriever) -> Chosen | None:
    try:
        found = Chosen.model_validate_json(_place(job, source).read_bytes())
        SOURCES[source.config.kind].config_type.model_validate(found.config)
        return found
    except (OSError, ValidationError):
        return None


def _remember(job: TrainingJob, source: Retriever, found: Chosen) -> None:
    write_bytes(_place(job, source), found.model_dump_json().encode())
