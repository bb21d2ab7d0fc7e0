"""A guest is a user like any other whose history is the given one."""

import numpy as np

from recsys_cli.pipeline.guest import GuestSnapshot, with_guest


def test_a_guest_has_the_history_and_leaves_everybody_else_alone(make):
    state = make.state(make.catalogue([0, 1, 1, 2], users=3), [(0, 1, True), (1, 2, True), (1, 3, False)])
    guest = with_guest(state, np.array([3, 1, 2, 1], np.int32))
    assert guest.catalogue.n_users == 4 and state.catalogue.n_users == 3
    assert guest.history[3].tolist() == [3, 1, 2, 1]
    assert (np.diff(guest.history_time[3]) > 0).all() and guest.history_time[3][-1] < guest.now
    assert guest.seen[3].tolist() == [1, 2, 3]
    assert dict(zip(guest.ties[3].tolist(), guest.tie_strength[3].tolist(), strict=True)) == {1: 3.0, 2: 1.0}
    for name in ("history", "seen", "follows", "blocked", "ties"):
        for user in range(3):
            assert getattr(guest, name)[user].tolist() == getattr(state, name)[user].tolist()
    assert guest.interactions is state.interactions


def test_the_features_of_a_guest_are_those_of_somebody_unknown():
    class Spy:
        def features(self, users, *rest):
            return users

    assert GuestSnapshot(Spy(), 3).features(np.array([2, 3, -1, 7]), None, None).tolist() == [2, -1, -1, -1]
