"""Why an item is not in the slate of a user: the stage that lost it, by how much, and what would have had to differ.

The request is made again with every stage's candidates kept. What no source proposed is put among the candidates and
sent through the rest, so that it is known what else would have stopped it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.losses import cut_loss, filter_loss, order_loss, place_of, policy_loss, sources_loss
from recsys_cli.errors import UnknownIdError
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filters import LastChecks, Policy, Published, Seen
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.stage import Filter, Scorer, Selector, Source, Stage

if TYPE_CHECKING:
    from recsys_cli.features.context import Context
    from recsys_cli.pipeline.query import Query
    from recsys_cli.slate_engine import SlateEngine

EVERYTHING = 1_000_000
"""Length of a cut that cuts nothing."""


@dataclass(frozen=True)
class Step:
    """What one stage did to the item."""

    stage: str
    there: bool
    """whether it is among the candidates behind the stage"""
    rank: int | None
    """its place from 1, where the stage leaves an order"""
    candidates: int
    """how many there are behind the stage"""


@dataclass(frozen=True)
class Loss:
    """A stage that stopped the item."""

    stage: str
    why: str
    """one sentence"""
    differ: str
    """what would have had to differ, one sentence"""
    value: float | None = None
    """what the item had, in the unit of `needed`; None where it is not a matter of numbers"""
    needed: float | None = None
    """what it would have had to have"""


@dataclass(frozen=True)
class WhyNot:
    """The way of one item through the request of one user."""

    user_id: int | str
    item_id: int | str
    run_id: str | None
    rank: int | None
    """its place in the slate; None where it is not there"""
    lost: Loss | None
    """the stage that lost it; None where it is in the slate"""
    then: list[Loss] = field(default_factory=list)
    """what would have stopped it behind that, in the order of the stages"""
    steps: list[Step] = field(default_factory=list)

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def why_not(
    engine: SlateEngine, user_id: int | str, item_id: int | str, n: int | None = None, context: Context | None = None
) -> WhyNot:
    """Follow an item through the request of a user; raises UnknownIdError for an item that the run does not know.

    A user that the run does not know is answered as any request of theirs would be.
    """
    item = engine.bundle.item_ids.position(item_id)
    if item < 0:
        raise UnknownIdError(f"item {item_id!r} is not in the run", "ids are those of the data it was trained on")
    query = engine.query(np.array([engine.position(user_id)], np.int32), n, context)
    served = _follow(query, engine.stages.stages)
    rank = place_of(served[-1][1], item)
    steps = [Step(s.name, *_place(s, c, item), int(c.counts[0])) for s, c in served]
    losses = [] if rank else _losses(engine, query, item, served)
    return WhyNot(
        user_id=user_id,
        item_id=engine.bundle.item_ids.external([item])[0],
        run_id=None if engine.manifest is None else engine.manifest.id,
        rank=rank,
        lost=losses[0] if losses else None,
        then=losses[1:],
        steps=steps,
    )


def _follow(
    query: Query, stages: tuple[Stage, ...], put_in: int | None = None, *, exempt: bool = False
) -> list[tuple[Stage, Candidates]]:
    """(stage, what it gave) of those that take part.

    put_in: an item to be among the candidates from the sources on, if none proposed it. exempt: whether it passes what
    leaves items out.
    """
    runner, out = Runner(query), []
    for stage in stages:
        before = runner.candidates
        runner.run([stage])
        given = runner.candidates
        lost = put_in is not None and place_of(given, put_in) is None
        if lost and isinstance(stage, Source) and not out:
            runner.candidates = given = _with_item(given, put_in)
        elif lost and exempt and isinstance(stage, (Filter, Policy)):
            runner.candidates = given = _with_item(given, put_in, before)
        if runner.records and runner.records[-1].name == stage.name:
            out.append((stage, given))
    return out


def _with_item(candidates: Candidates, item: int, before: Candidates | None = None) -> Candidates:
    """One user's candidates and one more, with the scores that it had before; proposed by nobody without."""
    at = None if before is None else np.flatnonzero(before.items[0] == item)
    scores = {}
    for name, score in candidates.scores.items():
        had = 1.0 if name == "safety_factor" else 0.0
        if at is not None and len(at) and name in before.scores:
            had = before.scores[name][0, at[0]]
        scores[name] = np.append(score, [[had]], axis=1).astype(np.float32)
    items = np.append(candidates.items, [[item]], axis=1).astype(np.int32)
    return Candidates(items, np.append(candidates.sources, [[0]], axis=1).astype(np.uint32), scores)


def _place(stage: Stage, candidates: Candidates, item: int) -> tuple[bool, int | None]:
    rank = place_of(candidates, item)
    ordered = {"light", "utility"} & candidates.scores.keys()
    return rank is not None, rank if ordered else None


def _losses(engine: SlateEngine, query: Query, item: int, served: list[tuple[Stage, Candidates]]) -> list[Loss]:
    """Everything that stops the item, in the order of the stages.

    Of a stage that cuts or orders it is known what the item has there by a pipeline that cuts nothing and lets the
    item pass the filters.
    """
    losses = []
    proposed = any(isinstance(s, Source) and place_of(c, item) for s, c in served)
    if not proposed:
        losses.append(Loss(*sources_loss(engine, query, item)))
    given = _follow(query, engine.stages.stages, None if proposed else item)
    for number, (stage, after) in enumerate(given):
        before = given[number - 1][1] if number else None
        if before is None or place_of(before, item) is None or place_of(after, item) is not None:
            continue
        if isinstance(stage, Policy):
            losses.append(Loss(stage.name, *policy_loss(stage.rules, query, item)))
        elif isinstance(stage, Filter):
            losses.append(Loss(stage.name, *filter_loss(stage, query, item)))
    free = _follow(query, _scored(_uncut(engine).stages.stages), item, exempt=True)
    losses += [
        Loss(stage.name, *told) for stage, after in given
        if isinstance(stage, Scorer) and (told := cut_loss(stage, after, free, item, engine.pipeline)) is not None
    ]
    if not losses:
        losses += _by_order(given, item, query.size)
    order = {stage.name: place for place, stage in enumerate(engine.stages.stages)}
    # sources propose nothing that is not published and, by their settings, little that was seen: no fault of theirs
    order |= {Published.name: -2, Seen.name: -1}
    unique = {loss.stage: loss for loss in reversed(losses)}
    return sorted(unique.values(), key=lambda loss: order[loss.stage])


def _uncut(engine: SlateEngine) -> SlateEngine:
    """The same engine whose scorers keep everything."""
    pipeline = engine.pipeline
    light = pipeline.light.model_copy(update={"keep": EVERYTHING})
    heavy = pipeline.heavy.model_copy(update={"keep": EVERYTHING})
    return replace(engine, pipeline=pipeline.model_copy(update={"light": light, "heavy": heavy}))


def _scored(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages up to the last scorer."""
    return stages[: 1 + max(i for i, stage in enumerate(stages) if isinstance(stage, Scorer))]


def _by_order(given: list[tuple[Stage, Candidates]], item: int, size: int) -> list[Loss]:
    """The stage behind which the item was first too far down for the slate, for good."""
    places = [
        (stage, after, place_of(after, item)) for stage, after in given
        if isinstance(stage, (Scorer, Selector)) and not isinstance(stage, LastChecks) and "utility" in after.scores
    ]
    lost = None
    for number, (stage, after, rank) in enumerate(places):
        inside = rank is not None and rank <= size
        earlier = places[number - 1] if number else None
        if inside:
            lost = None
        elif lost is None:
            lost = Loss(stage.name, *order_loss(stage, after, None if earlier is None else earlier[2], item, size))
    return [] if lost is None else [lost]

