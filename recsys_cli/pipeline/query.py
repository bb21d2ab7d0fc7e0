"""What is asked of the pipeline: slates for a batch of users at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from recsys_cli.hashing import mix

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.features.context import Context
    from recsys_cli.features.snapshot import ServedFeatures
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.safety.policy import Actions


T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Something that a request was answered without."""

    part: str
    """the stage, or the source within one"""
    error: str
    """what it raised"""

    def __str__(self) -> str:
        return f"{self.part} failed and is left out: {self.error}"


@dataclass(frozen=True)
class Query:
    """One request for a batch of B users at one moment."""

    users: np.ndarray
    """int32[B] positions, -1 for somebody unknown"""
    size: int
    """items a slate"""
    bundle: Bundle
    state: State
    snapshot: ServedFeatures
    context: Context
    seed: int
    salt: int | np.ndarray = 0
    """changes what exploration draws from one request of a user to the next; int64[B] where the rows are requests of
    their own"""
    journal: list[Actions] | None = None
    """takes what the safety policy did (`safety.policy.Actions`); None where nobody will read it"""
    without: frozenset[str] = frozenset()
    """names of stages that this request leaves out"""
    adventure: float | None = None
    """what the users of this request asked for, from -1, familiar, to 1, adventurous; None where they did not"""
    served: np.ndarray | None = None
    """int32[S] ascending: items that this request must not bring again, as a page after another; None without"""
    failures: list[Failure] | None = None
    """takes what sources, hydrators and side effects raise; None lets them raise it"""
    brief: bool = False
    """whether the slates are all that anybody looks at, so that what no stage reads need not be known of every
    candidate"""
    remarks: dict[str, np.ndarray] | None = None
    """takes sentences for the answers of some users (`tell`), each with bool[B]; None where nobody will read them"""

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def known(self) -> np.ndarray:
        """bool[B]: people with an interaction."""
        return self.state.history.counts(self.users) > 0

    def uniform(self, columns: int, purpose: int) -> np.ndarray:
        """float64[B, columns] uniform draws in [0, 1) that depend on the user, the seed, the salt and the
        purpose only, so that a user gets the same alone and in a batch."""
        keys = self.users.astype(np.int64).view(np.uint64)
        salted = np.atleast_1d(np.asarray(self.seed * 1_000_003 + self.salt * 8191 + purpose, np.int64))
        base = mix(keys + mix(salted.view(np.uint64)))
        grid = mix(base[:, None] + np.arange(1, columns + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        return (grid >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def tell(self, sentence: str, rows: np.ndarray) -> None:
        """Say something in the answers of the users in bool[B] `rows`."""
        if self.remarks is not None and rows.any():
            self.remarks[sentence] = self.remarks.get(sentence, False) | rows

    def attempt(self, part: str, call: Callable[..., T], *given: Any) -> T | None:
        """What a call gives; None where it raises and the query keeps failures."""
        if self.failures is None:
            return call(*given)
        try:
            return call(*given)
        except Exception as error:  # whatever somebody's stage or source raises
            told = " ".join(str(error).split())
            self.failures.append(Failure(part, f"{type(error).__name__}: {told}" if told else type(error).__name__))
            return None


@dataclass(frozen=True)
class SourceQuery:
    """As much of a Query as sources are asked with, by those who measure them: what a source raises is raised."""

    users: np.ndarray
    """int32[B]"""
    state: State

    def __len__(self) -> int:
        return len(self.users)

    def attempt(self, part: str, call: Callable[..., T], *given: Any) -> T:
        """What a call gives."""
        return call(*given)
