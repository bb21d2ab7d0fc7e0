"""Settings of the windows."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from recsys_cli.config import Section

Share = Annotated[float, Field(gt=0, lt=1)]
Kind = Literal["time", "last", "user_random", "given", "users", "rolling"]
IN_TIME, OF_USER = 0.4, 0.56
"""Share of the history window where none is set: of a log in time, of a user's rows."""


class WindowsConfig(Section):
    """Where the history window, the ranker's window and the test window begin and end."""

    split: Literal["auto"] | Kind = "auto"
    """How rows go into the windows. time: by moments, the latest rows measure. last: each user's last rows.
    user_random: a share of each user's rows, drawn with the seed. given: the parts that the data was published in.
    users: held-out people, whose first rows are known. rolling: several cuts in time. auto: given where the data has
    it, then time, then last where rows have an order, else user_random."""
    test_share: Share = 0.2
    """Share of the rows (time, rolling: the latest; last, user_random: of each user) or of the people (users) that
    only measures."""
    validation_share: Share = 0.1
    """Share before those on which the ranker is validated and choices are made."""
    history_share: Share | None = None
    """Share, the earliest, on which the sources are fitted before the ranker is trained; null takes 0.4 of a log that
    is cut in time, and 0.56 of each user's rows."""
    test_rows: PositiveInt | None = None
    """last: so many of each user's rows measure, instead of test_share."""
    validation_rows: PositiveInt | None = None
    """last: so many of each user's rows before those, instead of validation_share."""
    known_share: Share = 0.8
    """users: share of the rows of a held-out user, the first, that is known when the rest is to be found."""
    cuts: Annotated[int, Field(ge=2)] = 3
    """rolling: into so many test windows, one after the other, the test share is cut."""
    cut: PositiveInt | None = None
    """rolling: which of the cuts is trained on, 1 the first; null takes the last."""
    overlap: Literal["keep", "refuse"] = "keep"
    """given: what to do where a pair of user and item stands in train and in test."""
    test_start: dt.datetime | None = None
    """time: first moment of the test window (ISO 8601, UTC), instead of its share."""
    validation_start: dt.datetime | None = None
    """time: first moment of the validation part of the ranker's window."""
    history_end: dt.datetime | None = None
    """time: first moment of the ranker's window."""

    @property
    def dated(self) -> bool:
        """Whether a date is set."""
        return any(d is not None for d in (self.test_start, self.validation_start, self.history_end))

    @model_validator(mode="after")
    def _room_for_the_ranker(self) -> WindowsConfig:
        if self.test_share + self.validation_share + (self.history_share or IN_TIME) >= 1:
            raise ValueError(
                "test_share + validation_share + history_share must leave something to train on (sum below 1)"
            )
        if self.dated and self.split not in ("auto", "time", "given"):
            raise ValueError(f"dates cut a log in time, and split is {self.split}: leave them out, or set it to time")
        if self.split not in ("auto", "last") and (self.test_rows or self.validation_rows):
            raise ValueError(f"test_rows and validation_rows are for split last, and it is {self.split}")
        if self.cut is not None and (self.split != "rolling" or self.cut > self.cuts):
            raise ValueError(f"cut is for split rolling, at most {self.cuts}")
        return self
