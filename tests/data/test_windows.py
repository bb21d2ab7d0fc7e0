"""Three windows in order, by share, by date or as the source gave them."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.windows import WindowsConfig, make_windows
from recsys_cli.errors import ConfigError, DataError

SECOND = 1_000_000


def dataset(times, splits=None):
    return SimpleNamespace(
        path="data/x", log=SimpleNamespace(time=np.array(times, np.int64)), manifest=SimpleNamespace(splits=splits)
    )


def test_shares_are_of_the_impressions_in_time_order():
    data = dataset(np.arange(100) * SECOND)
    w = make_windows(WindowsConfig(test_share=0.2, validation_share=0.1, history_share=0.4), data)
    assert [w.start, w.history_end, w.validation_start, w.test_start, w.end] == [
        0,
        40 * SECOND,
        70 * SECOND,
        80 * SECOND,
        99 * SECOND + 1,
    ]


def test_dates_win_over_shares():
    data = dataset(np.arange(100) * SECOND)
    w = make_windows(WindowsConfig(test_start="1970-01-01T00:01:30", validation_start="1970-01-01T00:01:20"), data)
    assert w.test_start == 90 * SECOND and w.validation_start == 80 * SECOND


def test_a_given_split_is_the_test_window():
    data = dataset(np.arange(100) * SECOND, splits={"train": (0, 50 * SECOND), "test": (50 * SECOND, 100 * SECOND)})
    w = make_windows(WindowsConfig(), data)
    assert w.test_start == 50 * SECOND
    assert w.history_end < w.validation_start < w.test_start


def test_final_holds_nothing_out():
    w = make_windows(WindowsConfig(), dataset(np.arange(100) * SECOND), final=True)
    assert w.test_start == w.end
    assert w.validation_start < w.end


def test_dates_out_of_order_are_refused():
    config = WindowsConfig(test_start="1970-01-01T00:00:50", validation_start="1970-01-01T00:01:00")
    with pytest.raises(ConfigError, match="not in this order"):
        make_windows(config, dataset(np.arange(100) * SECOND))


@pytest.mark.parametrize("times", [[5], [5] * 50])
def test_data_of_one_moment_cannot_be_split(times):
    with pytest.raises(DataError, match="holds no impression"):
        make_windows(WindowsConfig(), dataset(times))


def test_an_empty_log_is_refused():
    with pytest.raises(DataError, match="no impressions"):
        make_windows(WindowsConfig(), dataset([]))
