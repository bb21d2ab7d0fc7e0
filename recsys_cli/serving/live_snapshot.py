"""Features between two refreshes: those of the last one, for users and items that came since those of the unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.features.context import Context
from recsys_cli.features.parts import FeatureParts
from recsys_cli.features.snapshot import Snapshot, unknown_beyond
from recsys_cli.features.spec import FeatureSpec


@dataclass(frozen=True)
class LiveSnapshot:
    """As `Snapshot`, for positions beyond those that it knows too."""

    inner: Snapshot

    @property
    def spec(self) -> FeatureSpec:
        return self.inner.spec

    @property
    def usual(self) -> dict[str, float]:
        """As `FrozenFeatures.usual`."""
        return self.inner.usual

    @property
    def now(self) -> int:
        """µs, as of when features were counted"""
        return self.inner.now

    def features(
        self,
        users: np.ndarray,
        items: np.ndarray,
        context: Context,
        similarities: dict[str, np.ndarray] | None = None,
        columns: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """As `Snapshot.features`."""
        keys = self.inner.keys
        users, items = unknown_beyond(users, keys.n_users), unknown_beyond(items, len(keys.author))
        return self.inner.features(users, items, context, similarities, columns)

    def parts(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray],
        columns: tuple[str, ...],
    ) -> FeatureParts:
        """As `Snapshot.parts`."""
        keys = self.inner.keys
        users, items = unknown_beyond(users, keys.n_users), unknown_beyond(items, len(keys.author))
        return self.inner.parts(users, items, context, similarities, columns)
