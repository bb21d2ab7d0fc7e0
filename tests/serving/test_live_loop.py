"""The live loop at a running server: another run for a share of the people, learning when asked, and its pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from server_process import Server

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.experiments.registry import ExperimentRegistry
from recsys_cli.live.canary import NAME, NEW, canary
from recsys_cli.live.config import CanaryConfig
from recsys_cli.live.decisions import Decisions

SECOND = "20990101-000000"


def second_run(folder, run: str = SECOND) -> str:
    """A copy of the run in use under another id; the id of that one."""
    store = RunStore(folder / "artifacts")
    target = folder / "artifacts" / "runs" / run
    shutil.copytree(folder / "artifacts" / "runs" / store.current(), target)
    manifest = json.loads((target / "manifest.json").read_bytes())
    (target / "manifest.json").write_text(json.dumps(manifest | {"id": run}))
    return store.current()


def wait_for(what, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.5)
    raise AssertionError("it did not come to that")


@pytest.mark.slow
def test_a_canary_answers_its_share_of_people_within_its_answers_and_is_gone_afterwards(folder):
    """People like nothing that the second run shows; the command's own watch ends it."""
    used = second_run(folder)
    server = Server.start(folder, wait=240)
    users = [str(1000 + n) for n in range(0, 60, 5)] + [str(2000 + n) for n in range(200)]
    config, seen, number = CanaryConfig(share=0.5, most_requests=300), {}, 0

    def people(_: float = 0.0) -> None:
        nonlocal number
        for user in users[number % 5 :: 5]:
            slate = server.get(f"/v1/recommend/{user}?n=5").json
            arm = slate.get("arms", {}).get(NAME) or slate.get("arms", {}).get(f"{NAME}@2")
            assert slate["run_id"] == (SECOND if arm == NEW else used)
            seen[arm] = seen.get(arm, 0) + 1
            if arm != NEW and slate["items"]:
                server.post("/v1/events", {"type": "click", "user_id": user, "request_id": slate["request_id"],
                                           "item_id": slate["items"][0]["item_id"]})
        number += 1

    try:
        gate = canary(folder / "artifacts", SECOND, config, ["click"], ["hide"], sleep=people,
                      clock=lambda: 0.0)
        assert gate.passed is False and gate.measured.startswith("engaged 0.000 an answer")
        assert 0 < seen[NEW] <= config.most_requests
        time.sleep(1.5)
        seen.clear()
        people()
        assert set(seen) == {None} and ExperimentRegistry(folder / "artifacts").running() == []
        assert server.get("/health/ready").json["status"] == "ready"
        # the server keeps to the bound by itself, whoever started the experiment
        definition = {"name": NAME, "version": 2, "variants": {"used": {}, NEW: {"run": SECOND}},
                      "most_answers": {NEW: 3}}
        assert server.post("/v1/experiments", definition).status == 200
        wait_for(lambda: (people(), seen.get(NEW, 0) >= 3)[1])
        people()
        assert seen[NEW] == 3
        assert "has given its 3 answers" in server.get("/health/ready").body.decode()
    finally:
        assert server.stop() == 0, server.errors


@pytest.mark.slow
def test_learning_when_asked_serves_the_new_run_and_tells_of_it(folder):
    server = Server.start(folder, "--set", "live.gates.quality_loss=1", "--set", "live.gates.order_loss=1",
                          "--set", "live.gates.auc_loss=1", "--set", "live.gates.calibration_loss=1", wait=240)
    try:
        before = server.get("/v1/runs").json
        slate = server.get("/v1/recommend/1001?n=5").json
        events = [{"type": "impression", "user_id": 1001, "request_id": slate["request_id"], "item_id": i["item_id"]}
                  for i in slate["items"]]
        assert server.post("/v1/events", events).json["accepted"] == 5
        assert server.get("/v1/retrain").json == {"state": "idle"}
        asked = server.post("/v1/retrain")
        assert asked.status == 202, asked.body
        assert server.post("/v1/retrain").status in (409, 429)
        page = server.get("/dashboard/learning").body.decode()
        assert "running" in page and "Learn again now" not in page
        last = wait_for(lambda: (got := server.get("/v1/retrain").json)["state"] == "idle" and got["last"], 300)
        told = (folder / "artifacts" / "retrain" / "last.log").read_text()
        assert last["outcome"] == "promoted", told
        gates = {g["gate"]: g for g in Decisions(folder / "artifacts").read()[-1]["gates"]}
        assert gates["shadow: errors"]["measured"].startswith("0 of 1 copies")
        assert gates["shadow: overlap"]["passed"] is None and gates["shadow: latency"]["passed"]
        wait_for(lambda: server.get("/v1/recommend/1001").json["run_id"] == last["run"])
        assert last["run"] not in json.dumps(before)
        assert server.post("/v1/retrain").status == 429
        page = server.get("/dashboard/learning").body.decode()
        assert last["run"] in page and "shadow: latency" in page and "Learn again now" in page
        drift = wait_for(
            lambda: (told := server.get("/dashboard/drift").body.decode()) and "being counted" not in told and told, 400
        )
        assert "No alert is on" in drift and "Every day" in drift
    finally:
        assert server.stop() == 0, server.errors


def test_a_wrong_schedule_is_told_before_anything_is_served(tmp_path):
    said = subprocess.run(
        [sys.executable, "-m", "recsys_cli", "serve", "--retrain", "weekly"], cwd=tmp_path, capture_output=True,
        text=True, env={k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")},
    )
    assert said.returncode == 3 and "'weekly' is no schedule" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 2
