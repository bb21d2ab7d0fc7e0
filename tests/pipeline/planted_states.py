"""Parts of states written by hand."""

import numpy as np

from recsys_cli.data.ragged import Ragged


def follows_of(authors: dict[int, list[int]], users: int) -> Ragged:
    """Who follows whom: user → authors."""
    rows = np.array([u for u, held in authors.items() for _ in held], np.int32)
    values = np.array([a for held in authors.values() for a in held], np.int32)
    return Ragged.group(rows, values, users).sorted_rows()
