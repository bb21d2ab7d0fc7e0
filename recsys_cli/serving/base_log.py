"""BaseLog: the log and the edges that a run was trained on, as arrays beside the server's state.

Features are counted over them and the events together. They are copied from the dataset once, so that the server does
not depend on where the dataset lies.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.data.log import Log
from recsys_cli.errors import ArtifactError
from recsys_cli.files import atomic_file

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

_COLUMNS = tuple(f.name for f in fields(Log) if f.name not in ("actions", "context", "positive_actions",
                                                                "negative_actions", "_cache"))
EDGES = ("follows", "blocks")


@dataclass(frozen=True)
class BaseLog:
    """What happened before the events of the server."""

    log: Log
    follows: dict[str, np.ndarray] | None
    """as `Dataset.edges` gives"""
    blocks: dict[str, np.ndarray] | None
    digest: str
    """of the dataset"""
    offset: int = 0
    """up to which events of the server are among its rows (`export`)"""

    @classmethod
    def of(cls, dataset: Dataset) -> BaseLog:
        """That of a dataset."""
        m = dataset.manifest
        return cls(dataset.log, dataset.edges("follows"), dataset.edges("blocks"), m.digest, m.events)

    def save(self, path: Path) -> None:
        """Write it to one file, whole or not at all."""
        arrays = {name: value for name in _COLUMNS if (value := getattr(self.log, name)) is not None}
        for group in ("actions", "context"):
            arrays |= {f"{group}/{name}": values for name, values in getattr(self.log, group).items()}
        for table in EDGES:
            arrays |= {f"{table}/{name}": values for name, values in (getattr(self, table) or {}).items()}
        meta = {
            "digest": self.digest, "offset": self.offset,
            "positive": self.log.positive_actions, "negative": self.log.negative_actions,
            "actions": list(self.log.actions), "edges": [t for t in EDGES if getattr(self, t) is not None],
        }
        with atomic_file(path) as temporary:
            save_arrays(temporary, arrays, meta)

    @classmethod
    def load(cls, path: Path) -> BaseLog:
        """What `save` wrote, mapped; raises ArtifactError where it is missing or damaged."""
        arrays, meta = load_arrays(path)

        def under(start: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}

        try:
            actions = under("actions/")
            log = Log(
                **{name: arrays.get(name) for name in _COLUMNS},
                actions={name: actions[name] for name in meta["actions"]},
                positive_actions=tuple(meta["positive"]),
                negative_actions=tuple(meta["negative"]),
                context=under("context/"),
            )
            edges = {t: under(f"{t}/") if t in meta["edges"] else None for t in EDGES}
            return cls(log, edges["follows"], edges["blocks"], meta["digest"], meta["offset"])
        except KeyError as error:
            raise ArtifactError(f"{path} lacks {error}", "start the server where the dataset is") from None

    def without(self, users: np.ndarray) -> BaseLog:
        """Without the rows and edges of some users (int32 positions)."""
        if not len(users):
            return self

        def left(edges: dict[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
            if edges is None:
                return None
            keep = ~np.isin(edges["from"], users)
            return {name: values[keep] for name, values in edges.items()}

        kept = np.flatnonzero(~np.isin(self.log.user, users))
        return replace(self, log=self.log.take(kept), follows=left(self.follows), blocks=left(self.blocks))
