"""A heavy ranker from its checkpoint, whichever kind it is."""

from __future__ import annotations

from recsys_cli.ranking.ensemble import EnsembleRanker
from recsys_cli.ranking.heavy import HeavyRanker
from recsys_cli.ranking.trees import TREE_KINDS, TreeRanker


def restore_ranker(content: dict) -> HeavyRanker | TreeRanker | EnsembleRanker:
    """From what `load_checkpoint` gives of `heavy.pt`; raises ArtifactError where it holds no heavy ranker."""
    kind = content["config"].get("kind") if isinstance(content.get("config"), dict) else None
    if kind == "ensemble":
        return EnsembleRanker.restore(content)
    return (TreeRanker if kind in TREE_KINDS else HeavyRanker).restore(content)
