"""Lists of kindling-rec with its default settings, for `recsys benchmark`: ROWS.csv USERS.txt LENGTH LISTS.json."""

import json
import sys
import time
from pathlib import Path

import pandas as pd
from answer import peak_memory_mib
from kindling import Engine

rows, users, length, out = sys.argv[1:]
data = pd.read_csv(rows, dtype={"user": str, "item": str}).rename(columns={"user": "entity_id", "item": "item_id"})
if "time" in data:
    data["timestamp"] = pd.to_datetime(data.pop("time"), unit="s")
wanted = Path(users).read_text().splitlines()
start = time.perf_counter()
engine = Engine()
engine.fit(data)
fitted = time.perf_counter()
batches = engine.recommend_batch(wanted, n=int(length))
ranked = time.perf_counter()
answer = {
    "lists": {user: [str(r.item_id) for r in recs] for user, recs in zip(wanted, batches, strict=True)},
    "fit_seconds": fitted - start,
    "rank_seconds": ranked - fitted,
    "peak_memory_mib": peak_memory_mib(),
}
Path(out).write_text(json.dumps(answer))
