"""The small worlds of the tests of sources, which `check_retriever` builds too."""

import numpy as np

from recsys_cli.testing.planted_world import DAY, NOW, edges, make_catalogue, make_log, make_window, planted

__all__ = [
    "DAY", "NOW", "edges", "make_catalogue", "make_log", "make_window", "planted", "planted_past_and_future", "recall",
]


def planted_past_and_future():
    """The window of the planted world up to its last four days, and the log of those."""
    catalogue, log, follows = planted()
    cut = NOW - 4 * DAY
    return make_window(catalogue, log, cut, follows), log.window(start=cut)


def recall(source, window, test, k):
    """Mean share of what each user of `test` turned to that stands among their first k items."""
    users = np.unique(test.user)
    items = source.retrieve(window.state, users, k)[0]
    return float(np.mean([np.isin(test.item[test.user == u], row).mean() for u, row in zip(users, items, strict=True)]))
