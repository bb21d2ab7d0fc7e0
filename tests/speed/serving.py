"""What the server bears: rates with events beside them, people without a pool, events in batches, switches of runs.

    python tests/speed/serving.py --artifacts artifacts --data data/world --rates 100,500,1000

Wall-clock figures of a busy machine are upper bounds; processor milliseconds a request tell more.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pyarrow.parquet as parquet

from recsys_cli.serving.load import Load
from recsys_cli.serving.loadtest import LoadReport, load_test


def start(artifacts: str, data: str, *options: str) -> tuple[subprocess.Popen, str, float]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "recsys_cli", "serve", "--artifacts-dir", artifacts, "--data-dir", data]
    process = subprocess.Popen([*command, "--port", "0", *options], stderr=subprocess.PIPE, text=True)
    url = ""
    while not (line := process.stderr.readline()).startswith("ready"):
        if not line:
            raise SystemExit("the server did not start")
        if found := re.search(r"listening on (\S+),", line):
            url = found[1]
    return process, url, time.perf_counter() - began


def tell(name: str, found: LoadReport) -> None:
    times = {t.kind: t for t in found.times}
    for kind, t in times.items():
        print(f"{name:32} {kind:10} {t.a_second:7.0f}/s  p50 {t.ms['p50']:8.1f}  p99 {t.ms['p99']:8.1f} ms  "
              f"failed {t.failed}")
    share = found.fallback.get("pool_pending", 0) / max(times["recommend"].requests, 1)
    print(f"{'':32} processor {found.processor_ms_a_request} ms a request, {found.resident_mb} MB, "
          f"{share:.1%} without a pool of their own")
    for warning in found.warnings:
        print(f"{'':32} {warning}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--data", default="data/world")
    parser.add_argument("--rates", default="100,500,1000")
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    table = parquet.read_table(f"{args.data}/users.parquet", columns=["user_id"])
    users = [str(u) for u in table["user_id"].to_pylist()]
    many = ("--set", "serving.warm_up=1000")
    process, _, seconds = start(args.artifacts, args.data, *many)
    print(f"start to ready, {min(len(users), 1000):,} pools asked for: {seconds:.1f} s")
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    process, url, seconds = start(args.artifacts, args.data, *many, "--set", "serving.warm_up_seconds=600")
    print(f"start to ready, with all of them: {seconds:.1f} s")
    try:
        base = Load(rate=1, seconds=args.seconds, users=users)
        for rate in map(float, args.rates.split(",")):
            tell(f"{rate:g} requests", load_test(url, replace(base, rate=rate)))
            tell(f"{rate:g} and {rate / 2:g} events", load_test(url, replace(base, rate=rate, events=rate / 2)))
        batches = replace(base, rate=5, events=50, batch=100)
        tell("batches of 100 events", load_test(url, batches))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    process, url, seconds = start(args.artifacts, args.data, "--set", "serving.warm_up=0")
    print(f"start to ready, with none: {seconds:.1f} s")
    try:
        tell("people without a pool", load_test(url, replace(base, rate=20, zipf=0)))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


if __name__ == "__main__":
    main()
