"""Time windows: what is learned from, what is trained on, what only measures."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys_cli.config import Section
from recsys_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

Share = Annotated[float, Field(gt=0, lt=1)]


class Windows(BaseModel):
    """The three windows in µs: [start, history_end), [history_end, test_start), [test_start, end)."""

    model_config = ConfigDict(extra="forbid")
    start: int
    history_end: int
    """Sources for the ranker's training are fitted on what is before."""
    validation_start: int
    """The ranker trains up to here and is validated on the rest of its window."""
    test_start: int
    """Nothing that is measured was fitted on anything from here on."""
    end: int


class WindowsConfig(Section):
    """Where the history window, the ranker's window and the test window begin and end.

    By shares of the impressions in time order, or by dates (ISO 8601, UTC), which win. A dataset that
    comes with a split of its own keeps it for the test window.
    """

    test_share: Share = 0.2
    """Share of the impressions, the latest ones, that only measure."""
    validation_share: Share = 0.1
    """Share before those on which the ranker is validated."""
    history_share: Share = 0.4
    """Share, the earliest ones, on which the sources are fitted before the ranker is trained."""
    test_start: dt.datetime | None = None
    """First moment of the test window."""
    validation_start: dt.datetime | None = None
    """First moment of the validation part of the ranker's window."""
    history_end: dt.datetime | None = None
    """First moment of the ranker's window."""

    @model_validator(mode="after")
    def _room_for_the_ranker(self) -> WindowsConfig:
        if self.test_share + self.validation_share + self.history_share >= 1:
            raise ValueError(
                "test_share + validation_share + history_share must leave something to train on (sum below 1)"
            )
        return self


def make_windows(config: WindowsConfig, dataset: Dataset, *, final: bool = False) -> Windows:
    """Windows of a dataset; raises DataError where one would be empty and ConfigError for dates out of order.

    With `final` nothing is held out: the test window starts after the last impression, and the shares are of
    all impressions.
    """
    time = dataset.log.time
    if not len(time):
        raise DataError(
            f"{dataset.path}: no impressions, there is nothing to learn from", "generate or import a dataset"
        )
    end = int(time[-1]) + 1

    def at(share: float) -> int:
        return int(time[min(int(share * len(time)), len(time) - 1)])

    splits = dataset.manifest.splits or {}
    test = (
        end
        if final
        else _moment(config.test_start) or (splits["test"][0] if "test" in splits else at(1 - config.test_share))
    )
    before = int((time < test).sum())
    left = before / len(time)
    scale = left if (final or "test" in splits or config.test_start) else 1.0
    validation = None if final else _moment(config.validation_start)
    if validation is None:
        validation = at(left - config.validation_share * scale)
    history = _moment(config.history_end) or at(config.history_share * scale)
    windows = Windows(start=int(time[0]), history_end=history, validation_start=validation, test_start=test, end=end)
    _check(windows, dataset)
    return windows


def _moment(value: dt.datetime | None) -> int | None:
    if value is None:
        return None
    value = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return int(value.timestamp() * 1_000_000)


def _check(windows: Windows, dataset: Dataset) -> None:
    if not windows.history_end <= windows.validation_start <= windows.test_start <= windows.end:
        raise ConfigError(
            "windows: history_end, validation_start and test_start are not in this order within the data",
            f"the data runs from {_iso(windows.start)} to {_iso(windows.end)}",
        )
    time = dataset.log.time
    for name, start, stop in (
        ("history", windows.start, windows.history_end),
        ("ranker", windows.history_end, windows.validation_start),
        ("validation", windows.validation_start, windows.test_start),
    ):
        if not ((time >= start) & (time < stop)).any():
            raise DataError(
                f"{dataset.path}: the {name} window ({_iso(start)} to {_iso(stop)}) holds no impression",
                "the dataset is too small or too short for three windows; change `windows` or bring more data",
            )


def _iso(moment: int) -> str:
    return dt.datetime.fromtimestamp(moment / 1e6, dt.UTC).isoformat(timespec="seconds")
