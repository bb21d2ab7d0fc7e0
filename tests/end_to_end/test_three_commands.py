"""Somebody with three CSV files is at a slate in three commands."""

from __future__ import annotations

import numpy as np
import pytest
from place import Place


@pytest.mark.slow
def test_three_files_three_commands_one_slate(tmp_path):
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 4, 40)
    rows = []
    for k in range(3000):
        user = int(rng.integers(0, 40))
        kind = int(taste[user]) if rng.random() < 0.8 else int(rng.integers(0, 4))
        product = 100 + 4 * int(20 * rng.random() ** 2) + kind
        event = ["view", "view", "view", "addtocart", "purchase"][int(rng.integers(0, 5))]
        rows.append(f"2024-{1 + k // 600:02d}-{1 + k // 24 % 25:02d} {k % 24:02d}:00:00,{event},c{user},{product}\n")
    (tmp_path / "events.csv").write_text("event_time,event_type,customer_id,product_id\n" + "".join(rows))
    products = [f'{i},"Thing, {i}",kind{i % 4},{i / 10}\n' for i in range(100, 180)]
    (tmp_path / "products.csv").write_text("product_id,title,category,price\n" + "".join(products))
    customers = [f"c{u},{20 + u},{'DE' if u % 2 else 'FR'}\n" for u in range(40)]
    (tmp_path / "customers.csv").write_text("customer_id,age,country\n" + "".join(customers))
    place = Place(tmp_path)
    (tmp_path / "own.yaml").write_text("{}\n")
    quiet = {"RECSYS_CONFIG": "own.yaml"}
    told = place.ok("import-data", "--guess", "events.csv", "products.csv", "customers.csv", **quiet)
    assert "click" in told and "3,000" in told
    place.ok("train", "-q", **quiet)
    slate = place.ok("recommend", "--user", "c1", "-n", "5", **quiet)
    assert "Thing, 1" in slate and len([line for line in slate.splitlines() if "Thing" in line]) >= 5
