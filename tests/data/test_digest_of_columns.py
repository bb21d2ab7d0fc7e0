from __future__ import annotations

import numpy as np
import pyarrow as pa

from recsys_cli.data import digest as module
from recsys_cli.data.digest import TableDigest, hash_array, mix


def digest_of(table, *, ordered=False):
    digest = TableDigest(ordered=ordered)
    digest.update(table)
    return digest.hexdigest()


def a_table(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table({
        "id": rng.integers(0, 99, n), "flag": rng.random(n) < 0.3, "name": rng.choice(["a", "bb", "ccc"], n),
        "value": rng.random(n).astype(np.float32),
    })


def test_shortcuts_for_narrow_columns_change_no_digest():
    table = a_table()
    rows = np.zeros(len(table), np.uint64)
    for name in table.column_names:
        rows += mix(hash_array(table[name].combine_chunks()) ^ module._salt(name))
    assert digest_of(table) == f"{int(np.sum(mix(rows), dtype=np.uint64)):016x}"
    encoded = table.set_column(2, "name", table["name"].combine_chunks().dictionary_encode())
    assert digest_of(encoded) == digest_of(table)
    assert digest_of(encoded.slice(100, 300)) == digest_of(table.slice(100, 300))


def test_nulls_count_as_values_of_their_own():
    flags = [True, None, False]
    others = ([True, False, False], [True, True, False])
    digests = {digest_of(pa.table({"flag": pa.array(f, pa.bool_())})) for f in (flags, *others)}
    assert len(digests) == 3
    names = pa.array(["x", None, "y"]).dictionary_encode()
    assert digest_of(pa.table({"n": names})) == digest_of(pa.table({"n": pa.array(["x", None, "y"])}))


def test_slices_and_shards_do_not_show(monkeypatch):
    table = a_table()
    whole, in_order = digest_of(table), digest_of(table, ordered=True)
    monkeypatch.setattr(module, "_SLICE", 64)
    assert digest_of(table) == whole
    assert digest_of(table, ordered=True) == in_order
    parts = [TableDigest() for _ in range(2)]
    parts[0].update(table.slice(700))
    parts[1].update(table.slice(0, 700))
    parts[0].merge(parts[1])
    assert parts[0].hexdigest() == whole
    assert digest_of(table.take(np.arange(1000)[::-1])) == whole
    assert digest_of(table.take(np.arange(1000)[::-1]), ordered=True) != in_order
