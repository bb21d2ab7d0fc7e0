"""Where the items of an author are lost, stage by stage, over all users."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import UnknownIdError
from recsys_cli.pipeline.runner import Runner

if TYPE_CHECKING:
    from recsys_cli.progress import Progress
    from recsys_cli.slate_engine import SlateEngine


@dataclass(frozen=True)
class ReachStep:
    """An author's items behind one stage."""

    stage: str
    candidates: int
    """pairs of a user and an item of the author that are still there"""
    lost: int
    """pairs that the stage lost"""
    users: int
    """users who still have one of the items"""


@dataclass(frozen=True)
class Reach:
    """How far the items of an author come."""

    author_id: int | str
    run_id: str | None
    items: int
    """published items"""
    users: int
    """users asked"""
    impressions: int
    """pairs in slates"""
    worst: str | None
    """the stage that lost most of what was proposed, None where none lost any"""
    steps: list[ReachStep]

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def reach(engine: SlateEngine, author_id: int | str, users: np.ndarray, n: int | None, progress: Progress) -> Reach:
    """Serve slates of `n` items to users (int32[U] positions), and count an author's items behind each stage; raises
    UnknownIdError for an author that the run does not know."""
    author = engine.bundle.author_ids.position(author_id)
    if author < 0:
        raise UnknownIdError(f"author {author_id!r} is not in the run", "ids are those of the data it was trained on")
    catalogue, now = engine.state.catalogue, engine.state.now
    mine = np.append(catalogue.item_author == author, False)
    pairs: dict[str, int] = {}
    people: dict[str, int] = {}
    size = engine.pipeline.batch_size
    with progress.step("users", total=len(users)) as bar:
        for start in range(0, len(users), size):
            query = engine.query(users[start : start + size], n)
            runner = Runner(query, keep=True)
            runner.run(engine.stages.stages)
            for name, candidates in runner.kept.items():
                held = mine[candidates.items]
                pairs[name] = pairs.get(name, 0) + int(held.sum())
                people[name] = people.get(name, 0) + int(held.any(axis=1).sum())
            bar.advance(len(query))
    published = int((mine[:-1] & (catalogue.item_created < now)).sum())
    steps, before = [], published * len(users)
    for name, count in pairs.items():
        steps.append(ReachStep(name, count, before - count, people[name]))
        before = count
    most = max(steps[1:], key=lambda step: step.lost, default=None)
    return Reach(
        engine.bundle.author_ids.external([author])[0], None if engine.manifest is None else engine.manifest.id,
        published, len(users), steps[-1].candidates if steps else 0,
        most.stage if most is not None and most.lost > 0 else None, steps,
    )
