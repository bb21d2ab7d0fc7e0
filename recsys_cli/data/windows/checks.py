"""What is checked of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.windows.notes import NAMES, bounds, iso
from recsys_cli.data.windows.row_windows import HISTORY, RANKER, TEST, VALIDATION
from recsys_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.data.windows.windows import Windows

SETTINGS = (
    "windows.history_share", "windows.history_share and windows.validation_share",
    "windows.validation_share (or validation_rows)", "windows.test_share (or test_rows)",
)
"""What decides about the rows of each window."""


def refuse_empty(window: np.ndarray, dataset: Dataset, final: bool) -> None:
    """Raises DataError where a window (int8[n] codes of the rows) holds no row; with `final` the test may."""
    counts = np.bincount(window, minlength=TEST + 1)
    for code in (HISTORY, RANKER, VALIDATION, *(() if final else (TEST,))):
        if not counts[code]:
            raise DataError(
                f"{dataset.path}: the {NAMES[code]} window holds no impression (of {len(window):,})",
                f"users have too few rows for {SETTINGS[code]}; change that, or bring more data",
            )


def check_windows(windows: Windows, log: Log, dataset: Dataset) -> None:
    """Raises ConfigError where cuts in time are out of order, DataError where nothing lies between two of them."""
    if not windows.history_end <= windows.validation_start <= windows.test_start <= windows.end:
        raise ConfigError(
            "windows: history_end, validation_start and test_start are not in this order within the data",
            f"the data runs from {iso(windows.start)} to {iso(windows.end)}",
        )
    spans = bounds(windows)[: None if windows.test_start < windows.end else -1]
    for name, setting, (start, stop) in zip(NAMES, SETTINGS, spans, strict=False):
        if not ((log.time >= start) & (log.time < stop)).any():
            raise DataError(
                f"{dataset.path}: the {name} window ({iso(start)} to {iso(stop)}) holds no impression",
                f"the dataset is too small or too short for {setting}; change that, or bring more data",
            )
