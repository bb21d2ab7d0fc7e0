"""The contracts hold for every kind of ranker and source of this package, and fail for what breaks a promise."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.ranking.kind import RankerKind
from recsys_cli.ranking.registry import RANKERS
from recsys_cli.retrieval.popularity.popularity import Popularity
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.testing import check_ranker, check_retriever

NETWORK = {"epochs": 1, "min_steps": 40, "batch_size": 128, "learning_rate": 1e-2, "average": False}
TREES = {"rounds": 10, "min_rows_in_leaf": 20}
SMALL = {
    "esmm": {**NETWORK, "behind": ["like"]}, "lightgbm": TREES, "lambdamart": TREES,
    "ensemble": {"network": {"kind": "shared_bottom", **NETWORK}, "trees": TREES},
}
"""Settings with which a fit takes a second."""


@pytest.mark.parametrize("kind", RANKERS)
def test_every_ranker_keeps_the_contract(kind):
    check_ranker(RANKERS[kind], RANKERS[kind].config.model_validate({"kind": kind, **SMALL.get(kind, NETWORK)}))


@pytest.mark.parametrize("kind", ["popularity", "item_neighbours", "ease", "in_network", "als"])
def test_sources_keep_the_contract(kind):
    check_retriever(SOURCES[kind], SOURCES[kind].config_type(**{"als": {"epochs": 3}}.get(kind, {})))


def broken(**parts) -> RankerKind:
    whole = RANKERS["lightgbm"]
    return RankerKind(**{name: getattr(whole, name) for name in ("config", "fit", "restore", "serve")} | parts)


def test_a_ranker_that_serves_something_else_than_it_learned_is_found_out():
    def serve(folder, threads):
        out = RANKERS["lightgbm"].serve(folder, threads)
        real = out._run
        out._run = lambda *given: tuple(part * np.float32(0.999) for part in real(*given))
        return out

    with pytest.raises(AssertionError, match="it serves what it learned: click differs"):
        check_ranker(broken(serve=serve), RANKERS["lightgbm"].config(**TREES))


def test_a_ranker_that_forgets_its_seed_is_found_out():
    seeds = iter(range(100))

    def fit(config, inputs):
        return RANKERS["lightgbm"].fit(config, replace(inputs, seed=next(seeds)))

    with pytest.raises(AssertionError, match="the same seed and rows give the same ranker"):
        check_ranker(broken(fit=fit), RANKERS["lightgbm"].config(**TREES))


def test_a_source_that_proposes_what_was_seen_is_found_out():
    class Shameless(Popularity):
        def retrieve(self, state, users, k):
            items, scores = super().retrieve(state, users, k)
            mine = np.array([state.history[u][0] if 0 <= u < len(state.history) else items[0, 0] for u in users])
            scores[:, 0], items[:, 0] = 1e9, mine
            return items, scores

    with pytest.raises(AssertionError, match=r"nothing is proposed that was seen|no item stands twice"):
        check_retriever(Shameless)
