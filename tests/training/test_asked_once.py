"""What is asked for twice is answered once."""

import numpy as np

from recsys_cli.pipeline import requests
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.requests import Kept


def answer(size):
    items = np.zeros((2, size), np.int32)
    found = Candidates(items, np.zeros(items.shape, np.uint32), {"rrf": np.zeros(items.shape, np.float32)})
    return slice(0, 2), None, found


def test_answers_are_kept_for_their_moment_alone_and_within_the_budget(monkeypatch):
    monkeypatch.setattr(requests, "KEPT_BYTES", 2 * 10 * 4 + 2 * 5 * 4)
    kept, moment, other = Kept(), object(), object()
    first, second = answer(10), answer(6)
    kept.put(moment, 0, first)
    assert kept.get(moment, 0) is first and kept.get(moment, 128) is None and kept.get(other, 0) is None
    kept.put(moment, 128, second)  # one number too many
    assert kept.get(moment, 128) is None and kept.get(moment, 0) is first
