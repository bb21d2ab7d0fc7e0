"""The ids that items have, as a tree of their codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.data.ragged import Ragged, expand


@dataclass(frozen=True)
class CodeTree:
    """A node for every beginning of an id; node 0 of level 0 is the empty one."""

    children: tuple[Ragged, ...]
    """of each level: nodes of the next below each node"""
    code: tuple[np.ndarray, ...]
    """of each level: int64 code of each node of the next"""
    sums: tuple[np.ndarray, ...]
    """of each level: float32[nodes, E] the summed embeddings of each node's codes"""
    items: Ragged
    """int32 items of each whole id"""
    share: np.ndarray
    """float32[n] ln of each item's share of what was turned to of those with its id, each counted once more"""

    @property
    def levels(self) -> int:
        return len(self.children)

    @classmethod
    def of(cls, codes: np.ndarray, counts: np.ndarray, embedding: np.ndarray) -> CodeTree:
        """codes: int16[n, L], -1 for items without; counts: float32[n]; embedding: float32[L, C, E]."""
        known = np.flatnonzero(codes[:, 0] >= 0)
        parent = np.zeros(len(known), np.int64)
        children, code, sums = [], [], [np.zeros((1, embedding.shape[2]), np.float32)]
        nodes = 1
        for level in range(codes.shape[1]):
            pairs = parent * np.int64(embedding.shape[1]) + codes[known, level]
            unique, node = np.unique(pairs, return_inverse=True)
            above, told = unique // embedding.shape[1], unique % embedding.shape[1]
            children.append(Ragged.group(above, np.arange(len(unique), dtype=np.int32), nodes))
            code.append(told)
            sums.append(sums[-1][above] + embedding[level][told])
            parent, nodes = node.ravel(), len(unique)
        weight = counts[known] + 1
        share = np.zeros(len(codes), np.float32)
        share[known] = np.log(weight / np.bincount(parent, weight, nodes)[parent])
        items = Ragged.group(parent, known.astype(np.int32), nodes)
        return cls(tuple(children), tuple(code), tuple(sums[:-1]), items, share)

    def below(self, level: int, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place int64[m] in `nodes`, node of the next level int64[m])."""
        return _expanded(self.children[level], nodes)

    def items_of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place in `nodes`, item) of whole ids."""
        return _expanded(self.items, nodes)


def _expanded(rows: Ragged, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start = rows.offsets[nodes]
    at, values = expand(start, rows.offsets[nodes + 1] - start, rows.values)
    return at, values.astype(np.int64)
