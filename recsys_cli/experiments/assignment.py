"""Who is in which arm: a stable hash of user and experiment, no table to keep.

The user's id is written as text (so 7 and "7" are one user) and its UTF-8 bytes are hashed to 64 bits as
in `data.digest`; that is added to the first eight bytes (little endian) of BLAKE2b of "experiment/salt/purpose"
and finalised by splitmix64. The upper 53 bits are a number in [0, 1). Purposes "traffic" (is the user in the
experiment at all) and "arm" are independent, so widening the traffic moves nobody between arms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recsys_cli.data.digest import hash_array, mix

OUTSIDE = -1
"""Arm of users who take no part."""


def buckets(user_ids: Sequence, experiment: str, salt: str = "", purpose: str = "arm") -> np.ndarray:
    """float64[n] in [0, 1), uniform over users and independent between experiments, salts and purposes.

    user_ids: the owner's ids, integers or strings.
    """
    ids = np.asarray(user_ids)
    text = pa.array(ids.tolist() if ids.dtype.kind == "O" else ids).cast(pa.string())
    label = hashlib.blake2b(f"{experiment}/{salt}/{purpose}".encode(), digest_size=8).digest()
    hashed = mix(hash_array(text) + np.frombuffer(label, "<u8")[0])
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def assign(
    user_ids: Sequence, experiment: str, shares: Sequence[float], *, traffic: float = 1.0, salt: str = ""
) -> np.ndarray:
    """int8[n] arm of each user, in proportion to `shares`; OUTSIDE for the rest beyond `traffic`.

    shares: one positive number an arm, in any unit.
    """
    edges = np.cumsum(np.asarray(shares, float)) / np.sum(shares)
    arm = np.searchsorted(edges[:-1], buckets(user_ids, experiment, salt), side="right").astype(np.int8)
    if traffic < 1:
        arm[buckets(user_ids, experiment, salt, "traffic") >= traffic] = OUTSIDE
    return arm
