"""Warm start: a ranker begins where the ranker of an earlier run ended, on newer rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import orjson

from recsys_cli.errors import ArtifactError
from recsys_cli.ranking.heavy_config import HeavyConfig
from recsys_cli.ranking.light import LightRanker

HINT = "train without --warm-start, or bring back what the run was trained with"


@dataclass(frozen=True)
class WarmStart:
    """What an earlier run leaves to the rankers that begin with it."""

    run: str
    """its id"""
    heavy: dict
    """its checkpoint `heavy.pt`"""
    light: LightRanker | None
    before: dict[str, list[str]] = field(default_factory=dict)
    """categorical feature → names of its codes 1, 2, … then; features of other codes are left out"""
    now: dict[str, list[str]] = field(default_factory=dict)
    """the same in the data that is trained on"""

    @property
    def digest(self) -> str:
        """Of everything that a training takes over."""
        text = orjson.dumps([self.run, self.before, self.now], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def part(self, name: str) -> WarmStart:
        """What the network or the trees of an ensemble begin with."""
        return replace(self, heavy=self.heavy["parts"][name])

    def check_kind(self, config: HeavyConfig) -> None:
        """Raises ArtifactError where the run's ranker is of another kind: known before anything is fitted."""
        theirs = self.heavy["config"]["kind"]
        if theirs != config.kind:
            raise ArtifactError(f"run {self.run} has a heavy ranker of kind {theirs}, this one is {config.kind}", HINT)

    def check(self, config: HeavyConfig, names: Sequence[str], tasks: Sequence[str]) -> None:
        """Raises ArtifactError naming the first difference of kind, features or tasks."""
        self.check_kind(config)
        self._compare("features", self.heavy["names"], names)
        self._compare("tasks", self.heavy["tasks"], tasks)

    def check_codes(self) -> None:
        """Raises ArtifactError where codes of categories mean other values now, for models that cannot move them."""
        for name in sorted(self.before.keys() | self.now.keys()):
            if self.before.get(name) != self.now.get(name):
                raise ArtifactError(
                    f"trees cannot go on from run {self.run}: the codes of {name} mean other values now "
                    f"({_change(self.before.get(name, ()), self.now.get(name, ()))})", HINT,
                )

    def _compare(self, what: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
        if list(theirs) != list(ours):
            raise ArtifactError(f"run {self.run} was trained with other {what}: {_change(theirs, ours)}", HINT)


def _change(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """What went and what came, a few of each."""
    gone, new = [x for x in theirs if x not in set(ours)], [x for x in ours if x not in set(theirs)]
    parts = [
        f"{what} {', '.join(map(str, some[:3]))}{f' and {len(some) - 3} more' if len(some) > 3 else ''}"
        for what, some in (("it had", gone), ("it lacked", new)) if some
    ]
    return "; ".join(parts) or "the same in another order"
