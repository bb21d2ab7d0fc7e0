"""The features of one user and one item, each with what its number says in plain units."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.behaviour import Behaviour, Entities
from recsys_cli.errors import UnknownIdError, UsageError
from recsys_cli.features.evaluate import Evaluator
from recsys_cli.features.formulas import NEVER, sigmoid
from recsys_cli.features.plan import Context
from recsys_cli.features.questions import Questions
from recsys_cli.features.spec import Feature

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine


@dataclass(frozen=True)
class Case:
    """One user, one item, one moment."""

    user: int | str
    item: int | str
    now: int
    """µs"""
    features: tuple[Feature, ...]
    values: np.ndarray
    """float32[F]"""
    entities: Entities
    """who and what it is about, with the history that networks may read"""

    def rows(self, names: dict[str, list[str]]) -> list[dict]:
        """The table form. names: category → names of its codes, as `Catalogue.names` holds them."""
        return [
            {"name": f.name, "group": f.group, "value": float(v), "reading": reading(f, float(v), names)}
            | {k: asdict(f)[k] for k in ("meaning", "formula")}
            for f, v in zip(self.features, self.values, strict=True)
        ]


def case_of(
    engine: RecommendationEngine, user_id: int | str, item_id: int | str, context: Context, dataset: Dataset | None
) -> Case:
    """What the rankers see of a user and an item at `context.now`.

    dataset: where its log is counted up to that moment; None takes the counts that the run serves with. Raises
    UnknownIdError for a user or item that the run does not know, UsageError where there is no time to count up to.
    """
    bundle = engine.bundle
    if dataset is not None and engine.manifest.windows.places:
        raise UsageError("the run's data has an order but no time to count up to", "leave out --at")
    user, item = bundle.user_ids.position(user_id), bundle.item_ids.position(item_id)
    for kind, place, given in (("user", user, user_id), ("item", item, item_id)):
        if place < 0:
            raise UnknownIdError(f"{kind} {given!r} is not in the run", "ids are those of the data it was trained on")
    users, items = np.array([user], np.int32), np.array([item], np.int32)
    if dataset is None:
        state, moment = engine.state, max(context.now, engine.state.now)
        behaviour = Behaviour.of_state(state, bundle.spec.positive)
        scores = {n: s.score(state, users, items[:, None]) for n, s in bundle.measuring.items()}
        values = engine.snapshot.features(users, items[:, None], context, scores)[0, 0]
    else:
        values, moment = _counted(engine, dataset, users, items, context), context.now
        behaviour = Behaviour.of_log(bundle.catalogue, dataset.log)
    return Case(
        bundle.user_ids.external([user])[0], bundle.item_ids.external([item])[0], context.now, bundle.spec.features,
        values, Entities(behaviour, users, items, np.array([moment])),
    )


def _counted(engine: RecommendationEngine, dataset: Dataset, users, items, context: Context) -> np.ndarray:
    """float32[F] from the rows of the log before the moment, as in the training table."""
    from recsys_cli.data.state import State

    bundle, spec = engine.bundle, engine.bundle.spec
    log = dataset.log.window(end=context.now)
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    given = {k: v for k in ("surface", "device") if (v := getattr(context, k)) is not None}
    usual = dict(zip(("surface", "device"), engine.snapshot.usual, strict=True))
    codes = {k: given.get(k, np.array([usual[k]], np.int16)) for k in usual}
    more = {k: context.more.get(k, np.array([v], np.float32)) for k, v in engine.snapshot.usual_more.items()}
    values = np.zeros((1, len(spec.features)), np.float32)
    question = Questions.at(context.now, 1, user=users, item=items, context=more, **codes)
    Evaluator(spec, bundle.catalogue, log, edges["follows"], edges["blocks"]).fill(question, spec.features, values)
    state = State.build(bundle.catalogue, log, context.now, **edges)
    for name, source in bundle.measuring.items():
        values[0, spec.column[f"sim_{name}"]] = source.score(state, users, items[:, None])[0, 0]
    return values[0]


def reading(f: Feature, value: float, names: dict[str, list[str]]) -> str:
    """A feature's value in plain units: a share in per cent, a count, a length of time, a name."""
    if f.measure == "rate":
        return f"{100 * float(sigmoid(value)):.2f} %"
    if f.measure in ("latest", "session_positive", "share"):
        return f"{100 * value:.1f} %"
    if f.measure in ("since_shown", "since_positive", "since_visit"):
        return "never" if value > NEVER - 1e-4 else f"{_span(np.expm1(value))} ago"
    if f.measure == "age":
        return _span(60 * np.expm1(value))
    if f.measure == "session_minutes":
        return _span(np.expm1(value))
    if f.measure in ("burst", "author_credibility"):
        return f"{np.exp(value):.2f} times" if value else "unknown" if f.measure == "author_credibility" else "as usual"
    if f.measure in ("dwell", "latest_dwell"):
        return f"{np.expm1(value):.1f} s"
    if f.formula.startswith("ln(1 + "):
        return f"{np.expm1(value):,.4g}"
    if f.formula == "1 or 0":
        return "yes" if value else "no"
    if f.measure == "code" and f.span < f.codes:
        return "unknown" if value == 0 else f"{value - 1:.0f}"
    if f.kind == "categorical":
        known = names.get(f.argument if f.source == "request" else f"{f.place}.{f.argument}", [])
        return "unknown" if value == 0 else known[int(value) - 1] if len(known) < f.codes else f"code {value:.0f}"
    return f"{value:,.4g}"


def _span(minutes: float) -> str:
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= size:
            return f"{minutes / size:,.1f} {unit}"
    return f"{minutes:.1f} min"
