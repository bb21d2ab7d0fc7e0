"""The registry of heavy rankers: `kind:` of the configuration → settings, fitting, restoring and serving."""

from __future__ import annotations

import os
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from recsys_cli.errors import ArtifactError
from recsys_cli.plugins import installed
from recsys_cli.ranking.ensemble.config import EnsembleConfig
from recsys_cli.ranking.kind import RankerKind, later, network_kind
from recsys_cli.ranking.networks.kinds import NETWORKS
from recsys_cli.ranking.trees.config import LambdaMartConfig, LightGbmConfig

if TYPE_CHECKING:
    from recsys_cli.ranking.serving.served import ServedRanker
    from recsys_cli.ranking.trained import TrainedRanker

RANKERS: dict[str, RankerKind] = {
    **{kind: network_kind(config) for kind, config in NETWORKS.items()},
    "lightgbm": RankerKind(
        LightGbmConfig, later("trees.ranker:fit_trees"), later("trees.ranker:TreeRanker.restore")
    ),
    "lambdamart": RankerKind(
        LambdaMartConfig, later("trees.lambdamart:fit_lambdamart"), later("trees.ranker:TreeRanker.restore")
    ),
    "ensemble": RankerKind(
        EnsembleConfig, later("ensemble.ranker:fit_ensemble"), later("ensemble.ranker:EnsembleRanker.restore"),
        quantisable=True,
    ),
}
"""`kind` → entry; installed packages add theirs under the entry points `recsys.rankers`."""
RANKERS |= installed("recsys.rankers", RANKERS, lambda entry: isinstance(entry, RankerKind) and entry.config)

HeavyRankerConfig = Annotated[reduce(or_, (entry.config for entry in RANKERS.values())), Field(discriminator="kind")]


def _entry(kind: object, where: str) -> RankerKind:
    if not isinstance(kind, str) or kind not in RANKERS:
        raise ArtifactError(
            f"{where} is of a heavy ranker of kind {kind!r}, which this program does not have",
            "install the package that adds it, or train again",
        )
    return RANKERS[kind]


def restore_ranker(content: dict) -> TrainedRanker:
    """From what `load_checkpoint` gives of `heavy.pt`; raises ArtifactError where it holds no heavy ranker."""
    config = content.get("config")
    if not isinstance(config, dict):
        raise ArtifactError("not a checkpoint of a heavy ranker", "train again")
    entry = _entry(config.get("kind"), "the checkpoint")
    try:
        return entry.restore(entry.config.model_validate(config), content)
    except ValidationError as error:
        reason = error.errors()[0]
        raise ArtifactError(
            f"not a checkpoint of a heavy ranker of this version: {'.'.join(map(str, reason['loc']))}: {reason['msg']}",
            "train again",
        ) from None


def load_ranker(folder: str | os.PathLike, threads: int = 1) -> ServedRanker:
    """The heavy ranker that `TrainedRanker.export` wrote into a folder, without torch.

    threads: for one call of `predict`. Raises ArtifactError where a file is missing, damaged or of another version.
    """
    from recsys_cli.ranking.serving.served import Description

    return _entry(Description.read(folder).kind, str(folder)).serve(Path(folder), threads)
