"""Requests that come at the same time are chosen for together: the stages behind the pools take a batch in one go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.serving.checked import chosen_at_once, looks_at_each_alone
from recsys_cli.serving.pooling import Choice, Parts, choose

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.slate_batch import SlateBatch
    from recsys_cli.slate_engine import SlateEngine

MOST = 64
"""Requests chosen for at once."""


class Chooser:
    """Collects the choices of one turn of the event loop, and makes them.

    The busier the server, the more of them share the price of a stage.
    """

    def __init__(self, engine: SlateEngine):
        self._with: tuple[SlateEngine, Parts, State] | None = None
        self.use(engine)
        self._waiting: list[tuple[Choice, asyncio.Future]] = []

    def use(self, engine: SlateEngine, feedback: dict[str, np.ndarray] | None = None) -> None:
        """Choose with another engine from now on; feedback: in the place of that of its state."""
        state = engine.state if feedback is None else replace(engine.state, feedback=feedback)
        same = self._with is not None and self._with[0] is engine
        parts = self._with[1] if same else Parts.of(engine)
        self._with, self._alone = (engine, parts, state), looks_at_each_alone(parts)

    def at_once(self, choice: Choice) -> SlateBatch | None:
        """A batch of one with the slate, where the pipeline allows to choose from a pool without waiting for others."""
        if not self._alone:
            return None
        engine, parts, state = self._with
        return chosen_at_once(engine, choice, parts, state)

    async def choose(self, choice: Choice) -> tuple[SlateBatch, int]:
        """The batch with the slate, and its row there."""
        batch = self.at_once(choice)
        return await self._submit(choice) if batch is None else (batch, 0)

    def _submit(self, choice: Choice) -> asyncio.Future[tuple[SlateBatch, int]]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._turn)
        self._waiting.append((choice, future))
        return future

    def _turn(self) -> None:
        waiting, self._waiting = self._waiting, []
        sizes: dict[int, list[tuple[Choice, asyncio.Future]]] = {}
        for entry in waiting:
            sizes.setdefault(entry[0].size, []).append(entry)
        for group in sizes.values():
            for start in range(0, len(group), MOST):
                self._choose(group[start : start + MOST])

    def _choose(self, group: list[tuple[Choice, asyncio.Future]]) -> None:
        try:
            engine, parts, state = self._with
            batch = choose(engine, [choice for choice, _ in group], parts, state)
        except Exception as error:
            if len(group) > 1:  # one that cannot be answered must not take the others along
                for entry in group:
                    self._choose([entry])
            elif not group[0][1].done():
                group[0][1].set_exception(error)
            return
        for row, (_, future) in enumerate(group):
            if not future.done():
                future.set_result((batch, row))


def shown(batch: SlateBatch, row: int) -> np.ndarray:
    """int32[m] items of a slate, from the top."""
    items = batch.items[row]
    return items[items >= 0]


def propensities(batch: SlateBatch, row: int, n: int) -> list[float]:
    """Probabilities with which the items of a row were shown, where a stage gives them."""
    known = batch.scores.get("propensity")
    return [] if known is None else known[row][:n].tolist()
