"""When cyclic garbage is collected in a server."""

import gc
import weakref

from recsys_cli.serving.garbage import FULL, MIDDLE, YOUNG, rare_collections


class Circle:
    """Holds itself."""

    def __init__(self):
        self.me = self


def test_a_full_collection_comes_only_when_it_is_asked_for_and_what_was_there_is_left_alone():
    before, old = gc.get_threshold(), Circle()
    gone_before = weakref.ref(old)
    with rare_collections():
        assert gc.get_threshold() == (YOUNG, MIDDLE, FULL) and gc.get_freeze_count() > 1_000
        circle = Circle()
        gone = weakref.ref(circle)
        gc.collect(1)  # it is of the oldest generation from now on
        del circle, old
        held = [[] for _ in range(3 * YOUNG * MIDDLE)]
        assert gone() is not None
        gc.collect()
        assert gone() is None and gone_before() is not None and len(held)
    assert gc.get_threshold() == before and not gc.get_freeze_count()
    gc.collect()
    assert gone_before() is None
