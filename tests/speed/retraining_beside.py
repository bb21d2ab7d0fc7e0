"""How a server answers while it retrains on the same cores: the same load before it, and while it runs.

    python tests/speed/retraining_beside.py --artifacts artifacts --data data/world --rate 200 --seconds 60

Works on a copy of the run. On a machine that does something else as well, compare the two rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import tempfile
import urllib.request
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as parquet
from serving import start, tell

from recsys_cli.serving.load import Load
from recsys_cli.serving.loadtest import load_test


def asked(url: str, method: str) -> dict:
    request = urllib.request.Request(f"{url}/v1/retrain", method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--data", default="data/world")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    table = parquet.read_table(f"{args.data}/users.parquet", columns=["user_id"])
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "artifacts"
        copy.mkdir()
        for name in ("runs", "current"):
            origin = Path(args.artifacts) / name
            (shutil.copytree if origin.is_dir() else shutil.copy)(origin, copy / name)
        process, url, _ = start(
            str(copy), args.data, "--set", "serving.warm_up=1000", "--set", "serving.warm_up_seconds=600"
        )
        try:
            users = [str(u) for u in table["user_id"].to_pylist()]
            load = Load(rate=args.rate, seconds=args.seconds, events=args.rate / 2, users=users)
            tell("before", load_test(url, load))
            asked(url, "POST")
            tell("while it retrains", load_test(url, replace(load, seed=1)))
            print(f"retraining afterwards: {asked(url, 'GET')['state']}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


if __name__ == "__main__":
    main()
