"""Who is in which variant: a stable hash of unit and experiment, no table to keep.

The unit's id is written as text (so 7 and "7" are one user) and its UTF-8 bytes are hashed to 64 bits as
in `data.digest`; that is added to the first eight bytes (little endian) of BLAKE2b of "experiment/salt/purpose"
and finalised by splitmix64. The upper 53 bits are a number in [0, 1). Purposes "traffic" (is the user in the
experiment at all) and "arm" are independent, so widening the traffic moves nobody between arms. A layer places users
by "layer NAME//place", and the holdout by "holdout//place"; both are the same for all experiments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys_cli.data.digest import hash_array, mix
from recsys_cli.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig

OUTSIDE = -1
"""Arm of users who take no part."""


def hashed_ids(user_ids: Sequence) -> np.ndarray:
    """uint64[n] hashes of ids, integers or strings, which `buckets` may be given instead of the ids."""
    if isinstance(user_ids, pa.Array | pa.ChunkedArray):
        text = user_ids.cast(pa.string())
        return hash_array(text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text)
    ids = np.asarray(user_ids)
    return hash_array(pa.array(ids.tolist() if ids.dtype.kind in "OU" else ids).cast(pa.string()))


def buckets(
    user_ids: Sequence, experiment: str, salt: str = "", purpose: str = "arm", *, hashed: np.ndarray | None = None
) -> np.ndarray:
    """float64[n] in [0, 1), uniform over users and independent between experiments, salts and purposes.

    user_ids: the owner's ids, integers or strings. hashed: `hashed_ids` of them, where many buckets are asked for.
    """
    ids = hashed_ids(user_ids) if hashed is None else hashed
    label = hashlib.blake2b(f"{experiment}/{salt}/{purpose}".encode(), digest_size=8).digest()
    mixed = mix(ids + np.frombuffer(label, "<u8")[0])
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def assign(
    user_ids: Sequence,
    experiment: str,
    shares: Sequence[float],
    *,
    traffic: float = 1.0,
    salt: str = "",
    hashed: np.ndarray | None = None,
) -> np.ndarray:
    """int8[n] arm of each user, in proportion to `shares`; OUTSIDE for the rest beyond `traffic`.

    shares: one positive number an arm, in any unit. hashed: `hashed_ids` of the users.
    """
    ids = hashed_ids(user_ids) if hashed is None else hashed
    edges = np.cumsum(np.asarray(shares, float)) / np.sum(shares)
    arm = np.searchsorted(edges[:-1], buckets((), experiment, salt, hashed=ids), side="right").astype(np.int8)
    if traffic < 1:
        arm[buckets((), experiment, salt, "traffic", hashed=ids) >= traffic] = OUTSIDE
    return arm


def assign_units(
    config: ExperimentConfig,
    user_ids: Sequence,
    *,
    clusters: Sequence | None = None,
    attributes: Mapping[str, Sequence] | None = None,
    day: int | None = None,
) -> np.ndarray:
    """int8[n] variant of each user by everything that an experiment says; OUTSIDE for those who take no part.

    clusters: cluster of each user, where whole clusters are assigned. attributes: column → value of each user, for
    targeting. day: day of the experiment from 1 on, for the ramp; by default it is over. Raises DataError where
    clusters or an attribute that the experiment asks for are missing.
    """
    if config.unit == "cluster" and clusters is None:
        raise DataError(f"experiment {config.name} assigns clusters", "give each user's cluster_id")
    ids = hashed_ids(user_ids if config.unit == "user" else clusters)
    shares = [arm.share for arm in config.arms]
    arm = assign((), config.key, shares, traffic=config.traffic_of(day), salt=config.salt, hashed=ids)
    if config.layer is not None:
        place = buckets((), f"layer {config.layer.name}", purpose="place", hashed=ids)
        arm[(place < config.layer.start) | (place >= config.layer.end)] = OUTSIDE
    if config.holdout:
        arm[buckets((), "holdout", purpose="place", hashed=ids) < config.holdout] = OUTSIDE
    for column, allowed in config.targeting.items():
        if column not in (attributes or {}):
            raise DataError(
                f"experiment {config.name} is for users by {column!r}, which is not known of them",
                did_you_mean(column, attributes or (), "give it as a column beside user_id"),
            )
        wanted = {str(value) for value in allowed}
        arm[[str(value) not in wanted for value in attributes[column]]] = OUTSIDE
    return arm

