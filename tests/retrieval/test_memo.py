"""What a request computed is found again, by the thread that computed it."""

import threading
from types import SimpleNamespace

import numpy as np

from recsys_cli.retrieval.memo import LastAnswer


class State(SimpleNamespace):
    """Anything that can be referred to weakly."""


def test_the_last_answer_is_kept_of_one_batch_and_one_state():
    last, state, asked = LastAnswer(), State(), []

    def answer(users, of=state):
        return last(of, np.array(users, np.int32), lambda: asked.append(users) or len(asked))

    assert [answer([1, 2]), answer([1, 2]), answer([2, 1]), answer([1, 2])] == [1, 1, 2, 3]
    assert answer([1, 2], State()) == 4
    assert last.get(state, np.array([1, 2], np.int32)) is None


def test_threads_do_not_take_each_others_answers_away():
    last, state = LastAnswer(), State()
    turns, found = threading.Barrier(2), {}

    def work(user):
        computed = []
        for _ in range(3):
            turns.wait()
            last(state, np.array([user], np.int32), lambda: computed.append(1) or user)
        found[user] = (len(computed), last.get(state, np.array([user], np.int32)))

    threads = [threading.Thread(target=work, args=(user,)) for user in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {3: (1, 3), 4: (1, 4)}
