"""Models of explicit ratings: biases, matrix factorisation with biases, neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.config import Section
from recsys_cli.errors import DataError

ROWS_AT_ONCE = 2_000
LARGEST_SIDE = 20_000
"""Neighbours compare everybody with everybody in one matrix; beyond so many that would not fit."""


class BaselineConfig(Section):
    """Mean plus biases of user and item (Koren, TKDD 2010)."""

    kind: Literal["baseline"] = "baseline"
    renamed: ClassVar[dict[str, str]] = {
        "rounds": "epochs",
        "user_regularisation": "user_l2",
        "item_regularisation": "item_l2",
    }
    epochs: PositiveInt = 10
    """Times that the items' and the users' biases are each solved for."""
    user_l2: NonNegativeFloat = 15.0
    """Ratings at the mean that a user's bias counts besides the user's own."""
    item_l2: NonNegativeFloat = 10.0
    """Likewise for an item."""


class BiasedSvdConfig(Section):
    """Matrix factorisation of ratings with biases by stochastic gradient descent (Funk 2006)."""

    kind: Literal["biased_svd"] = "biased_svd"
    renamed: ClassVar[dict[str, str]] = {"factors": "dim", "regularisation": "l2"}
    dim: PositiveInt = 100
    """Width of the vectors."""
    epochs: PositiveInt = 20
    """Passes over the ratings."""
    learning_rate: PositiveFloat = 0.005
    """Step of the descent."""
    l2: NonNegativeFloat = 0.02
    """Weight of the squared biases and vectors."""
    spread: PositiveFloat = 0.1
    """Standard deviation of the vectors at the start."""


class RatingNeighboursConfig(Section):
    """Ratings of the nearest users for the item, or of the user for the nearest items (Herlocker et al. 1999)."""

    kind: Literal["rating_neighbours"] = "rating_neighbours"
    between: Literal["users", "items"] = "users"
    """Whose likeness is measured."""
    neighbours: PositiveInt = 40
    """Most neighbours whose ratings are averaged."""
    centre: Literal["none", "mean", "baseline"] = "mean"
    """What is taken off each rating before averaging and added again: nothing, the mean of the user (or item), or
    the baseline of mean and biases."""
    baseline: BaselineConfig = BaselineConfig()
    """The baseline, where it is the centre."""


RatingSettings = Annotated[BaselineConfig | BiasedSvdConfig | RatingNeighboursConfig, Field(discriminator="kind")]


@dataclass(frozen=True)
class Ratings:
    """m ratings: user int[m], item int[m], value float64[m]; `users` and `items` say how many there are at all."""

    user: np.ndarray
    item: np.ndarray
    value: np.ndarray
    users: int
    items: int

    def take(self, rows: np.ndarray) -> Ratings:
        return Ratings(self.user[rows], self.item[rows], self.value[rows], self.users, self.items)


class RatingModel:
    """Fitted on ratings, predicts others. A user or item without a rating is taken for an average one."""

    config_type: ClassVar[type[Section]] = Section

    def __init__(self, config):
        self.config = config

    def fit(self, ratings: Ratings, seed: int = 0) -> None:
        raise NotImplementedError

    def predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """float64[m] expected ratings of pairs, not cut to the scale."""
        raise NotImplementedError


class Baseline(RatingModel):
    """μ + b_u + b_i with the biases by alternating regularised least squares."""

    config_type: ClassVar = BaselineConfig

    def fit(self, ratings: Ratings, seed: int = 0) -> None:
        r, c = ratings, self.config
        self.mean = float(r.value.mean())
        rest = r.value - self.mean
        per_user, per_item = np.bincount(r.user, minlength=r.users), np.bincount(r.item, minlength=r.items)
        self.user_bias, self.item_bias = np.zeros(r.users), np.zeros(r.items)
        for _ in range(c.epochs):
            left = np.bincount(r.item, rest - self.user_bias[r.user], r.items)
            self.item_bias = left / np.maximum(c.item_l2 + per_item, 1e-12)
            left = np.bincount(r.user, rest - self.item_bias[r.item], r.users)
            self.user_bias = left / np.maximum(c.user_l2 + per_user, 1e-12)

    def predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.mean + self.user_bias[user] + self.item_bias[item]


class BiasedSvd(RatingModel):
    """μ + b_u + b_i + p_u · q_i, each rating in turn moving its four terms against its own error.

    The ratings of one step share no user and no item, so that a step changes what its ratings would change one
    after the other; the steps come in a new order in every epoch.
    """

    config_type: ClassVar = BiasedSvdConfig

    def fit(self, ratings: Ratings, seed: int = 0) -> None:
        r, c = ratings, self.config
        generator = np.random.default_rng(seed)
        self.mean = float(r.value.mean())
        self.user_bias, self.item_bias = np.zeros(r.users), np.zeros(r.items)
        self.user_vectors = generator.normal(0, c.spread, (r.users, c.dim))
        self.item_vectors = generator.normal(0, c.spread, (r.items, c.dim))
        steps = disjoint_steps(r.user, r.item, generator)
        for _ in range(c.epochs):
            for at in generator.permutation(len(steps)):
                self._step(r, steps[at])
        # what no rating moved says nothing
        self.user_vectors[np.bincount(r.user, minlength=r.users) == 0] = 0
        self.item_vectors[np.bincount(r.item, minlength=r.items) == 0] = 0

    def _step(self, r: Ratings, rows: np.ndarray) -> None:
        rate, shrink = self.config.learning_rate, self.config.l2
        u, i = r.user[rows], r.item[rows]
        p, q, b_u, b_i = self.user_vectors[u], self.item_vectors[i], self.user_bias[u], self.item_bias[i]
        error = r.value[rows] - (self.mean + b_u + b_i + np.einsum("mf,mf->m", p, q))
        self.user_bias[u] = b_u + rate * (error - shrink * b_u)
        self.item_bias[i] = b_i + rate * (error - shrink * b_i)
        self.user_vectors[u] = p + rate * (error[:, None] * q - shrink * p)
        self.item_vectors[i] = q + rate * (error[:, None] * p - shrink * q)

    def predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        product = np.einsum("mf,mf->m", self.user_vectors[user], self.item_vectors[item])
        return self.mean + self.user_bias[user] + self.item_bias[item] + product


def disjoint_steps(user: np.ndarray, item: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """Rows in groups in which no user and no item stands twice: each row goes to the first group with room."""
    order = generator.permutation(len(user))
    taken_by_user, taken_by_item = [0] * (int(user.max()) + 1), [0] * (int(item.max()) + 1)
    group = np.empty(len(order), np.int64)
    for row, u, i in zip(order.tolist(), user[order].tolist(), item[order].tolist(), strict=True):
        taken = taken_by_user[u] | taken_by_item[i]
        # the lowest bit that neither has set
        free = ~taken & (taken + 1)
        taken_by_user[u] |= free
        taken_by_item[i] |= free
        group[row] = free.bit_length() - 1
    by_group = np.argsort(group, kind="stable")
    return np.split(by_group, np.cumsum(np.bincount(group))[:-1])


class RatingNeighbours(RatingModel):
    """centre_ui + Σ s(u, v) (r_vi − centre_vi) / Σ s(u, v) over the `neighbours` likest raters v of i, s > 0.

    s = 1 / (1 + mean squared difference over what both rated), 0 where both rated nothing in common; between
    items, the same with the sides exchanged. A rating with no neighbour is predicted by its centre.
    """

    config_type: ClassVar = RatingNeighboursConfig

    def fit(self, ratings: Ratings, seed: int = 0) -> None:
        c = self.config
        turned = c.between == "items"
        rows, columns = (ratings.item, ratings.user) if turned else (ratings.user, ratings.item)
        shape = (ratings.items, ratings.users) if turned else (ratings.users, ratings.items)
        if max(shape) > LARGEST_SIDE:
            raise DataError(
                f"rating_neighbours: {max(shape):,} {c.between} or more are too many to compare with each other",
                "use biased_svd",
            )
        self.held = np.zeros(shape, np.float32)
        values = np.zeros(shape)
        self.held[rows, columns], values[rows, columns] = 1, ratings.value
        self.likeness = likeness(values, self.held)
        self.mean = float(ratings.value.mean())
        self.base = None
        if c.centre == "baseline":
            self.base = Baseline(c.baseline)
            self.base.fit(ratings)
        count = self.held.sum(axis=1)
        self.means = np.where(count > 0, values.sum(axis=1) / np.maximum(count, 1), self.mean)
        every = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
        self.rest = ((values - self._centre(*every)) * self.held).astype(np.float32)

    def _centre(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        if self.config.centre == "none":
            return np.zeros(np.broadcast_shapes(row.shape, column.shape))
        if self.base is None:
            return np.broadcast_to(self.means[row], np.broadcast_shapes(row.shape, column.shape))
        return self.base.predict(*((column, row) if self.config.between == "items" else (row, column)))

    def predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        row, column = (item, user) if self.config.between == "items" else (user, item)
        k = min(self.config.neighbours, len(self.held))
        out = np.array(self._centre(row, column), np.float64)
        for start in range(0, len(row), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            near = self.likeness[row[part]] * self.held[:, column[part]].T
            best = np.argpartition(near, len(self.held) - k, axis=1)[:, len(self.held) - k :]
            weight = np.take_along_axis(near, best, axis=1)
            total = weight.sum(axis=1)
            moved = (weight * self.rest[best, column[part][:, None]]).sum(axis=1) / np.maximum(total, 1e-12)
            alone = self.mean if self.config.centre == "none" else 0.0
            out[part] += np.where(total > 0, moved, alone)
        return out


def likeness(values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """float32[n, n] of 1 / (1 + mean squared difference over the columns that both rows hold), 0 for none."""
    both = held @ held.T
    squares = (values**2) @ held.T
    difference = squares + squares.T - 2 * (values @ values.T)
    out = np.where(both > 0, 1 / (1 + np.maximum(difference, 0) / np.maximum(both, 1)), 0).astype(np.float32)
    np.fill_diagonal(out, 0)
    return out


RATING_MODELS: dict[str, type[RatingModel]] = {
    "baseline": Baseline,
    "biased_svd": BiasedSvd,
    "rating_neighbours": RatingNeighbours,
}
"""`kind` → class."""
