"""Lists of words and ids that belong to a user, as the catalogue keeps them: by hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.catalogue import HASH_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recsys_cli.data.ragged import Ragged
    from recsys_cli.pipeline.query import Query


def hashed(names: Sequence[str | int]) -> np.ndarray:
    """int32[n] hashes of words or ids, as lists of users and of items hold them."""
    import pyarrow as pa  # here, for nobody else who serves needs it

    from recsys_cli.data.digest import hash_array

    if not len(names):
        return np.zeros(0, np.int32)
    return (hash_array(pa.array([str(name) for name in names])) % np.uint64(2**HASH_BITS)).astype(np.int32)


def user_list(query: Query, column: str) -> Ragged:
    """int32 hashes by user, ascending."""
    return query.state.catalogue.user_columns.lists[column]


def listed(query: Query, column: str, values: np.ndarray) -> np.ndarray:
    """bool of the shape of `values` int32[B, K]: whether the user's list holds the hash; False for -1."""
    return user_list(query, column).contains(query.users, values)
