"""Features of a fixed small world, as they were first recorded: moving code must not move numbers.

`python tests/features/test_golden.py` records them anew, for a change that is meant to change them.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
from feature_worlds import make_world, with_before

from recsys_cli.features.build import build_table
from recsys_cli.features.context import Context
from recsys_cli.features.define import create_spec
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.testing.small_world import ITEMS, similarity

GOLDEN = Path(__file__).with_name("golden.npz")
HOUR = 3_600_000_000


def measured() -> dict[str, np.ndarray]:
    """Names and definitions of the features, their values as of some impressions, and as served now and later."""
    _, catalogue, log, edges = make_world(11, n=400)
    spec = make_world(11, n=400)[0]
    config = spec.config.model_copy(update={"before_taste_dims": 2})
    catalogue = replace(catalogue, before=with_before(11)[1].before)
    spec = create_spec(
        config, catalogue, positive=log.positive_actions, negative=log.negative_actions, has_dwell=True,
        surfaces=["home", "search"], devices=["a", "b", "c"], similarities=("als",), context=log.context,
    )
    rows = np.arange(3, len(log), 16)
    table = build_table(spec, catalogue, log, rows, edges, edges, similarity)
    now = int(log.time[-1]) + 1
    snapshot = Snapshot.build(spec, catalogue, log, now, edges, edges)
    rng = np.random.default_rng(0)
    users, items = np.array([0, 3, -1, 5], np.int32), rng.integers(-1, ITEMS, (4, 5)).astype(np.int32)
    scores = {"als": np.arange(items.size, dtype=np.float32).reshape(items.shape)}
    context = Context(now, np.array([0, 1, 1, -1], np.int16), more={"network": np.array([1, 0, -1, 1], np.int32)})
    told = ("name", "group", "place", "measure", "meaning", "formula", "argument", "span", "codes")
    told = [[getattr(f, field) for field in told] for f in spec.features]
    definitions = hashlib.sha256(orjson.dumps(told)).hexdigest()
    return {
        "names": np.array(spec.names), "definitions": np.array(definitions), "table": table.values,
        "served": snapshot.features(users, items, context, scores),
        "later": snapshot.features(users, items, Context(now + 5 * HOUR), scores),
    }


def test_definitions_and_values_are_those_first_recorded():
    found = measured()
    with np.load(GOLDEN) as golden:
        assert found["names"].tolist() == golden["names"].tolist()
        assert found["definitions"] == golden["definitions"]
        for part in ("table", "served", "later"):
            for j, name in enumerate(golden["names"]):
                got, wanted = found[part][..., j], golden[part][..., j]
                np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5, err_msg=f"{part} of {name}")


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **measured())
    sys.exit(f"recorded {GOLDEN}")
