"""What goes wrong beneath a server that runs: models without numbers, clocks that jump, files that are damaged."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kills import held_against
from server_process import Server

pytestmark = pytest.mark.slow


def without_numbers(folder: Path) -> None:
    """Have the heavy ranker of the run in use give NaN for everything."""
    import onnx

    from recsys_cli.artifacts.runs import RunStore
    from recsys_cli.files import file_digest

    run = RunStore(folder / "artifacts").open()
    path = run.bundle / "ranking" / "heavy.onnx"
    model = onnx.load(path)
    leaves = [a for n in model.graph.node for a in n.attribute if a.name in ("target_weights", "class_weights")]
    assert leaves
    for attribute in leaves:
        attribute.floats[:] = [math.nan] * len(attribute.floats)
    onnx.save(model, path)
    manifest = run.folder / "manifest.json"
    content = json.loads(manifest.read_text())
    entry = content["files"]["bundle/ranking/heavy.onnx"]
    entry["bytes"], entry["digest"] = path.stat().st_size, file_digest(path)
    manifest.write_text(json.dumps(content))


def test_a_model_that_gives_no_numbers_is_answered_without_and_told(folder):
    without_numbers(folder)
    server = Server.start(folder, "--set", "serving.warm_up=0")
    try:
        slate = server.get("/v1/recommend/1005?n=10").json
        assert len(slate["items"]) == 10 and slate["fallback"] == "pool_pending"
        assert all(math.isfinite(item["score"]) for item in slate["items"])
        assert len(server.post("/v1/rank/1005", {"items": ["i1", "i2", "i3"]}).json["items"]) == 3
        since = time.monotonic()
        while not counted(server, 'recsys_alerts_total{kind="pool"}'):
            assert time.monotonic() - since < 60
            time.sleep(0.2)
        assert server.get("/v1/recommend/nobody?n=5").json["items"]
    finally:
        assert server.stop() == 0
    traced = [p.read_text() for p in (folder / "artifacts" / "logs").glob("*") if p.is_file()]
    assert any("not finite" in text for text in traced)


def counted(server: Server, name: str) -> float:
    """A counter of the server; 0 where it has not begun."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


SHIFTED = """
import os, time
_real, _place = time.time_ns, os.environ["SHIFT_OF_THE_CLOCK"]

def _now():
    try:
        with open(_place) as file:
            return _real() + int(float(file.read()) * 1e9)
    except (OSError, ValueError):
        return _real()

time.time_ns = _now
time.time = lambda: _now() / 1e9
"""


def test_a_clock_that_jumps_loses_nothing_and_what_people_do_counts_at_once(folder, tmp_path):
    (tmp_path / "shift").mkdir()
    (tmp_path / "shift" / "sitecustomize.py").write_text(SHIFTED)
    shift = tmp_path / "seconds"
    shift.write_text("0")
    environment = {"PYTHONPATH": f"{tmp_path / 'shift'}:{Path(__file__).parents[2]}", "SHIFT_OF_THE_CLOCK": str(shift)}
    server, sent = Server.start(folder, env=environment), set()
    try:
        # a day ahead, back to now, two days behind, an hour ahead: as clocks that are set by hand
        for number, seconds in enumerate((0, 86_400, 0, -172_800, 3_600)):
            shift.write_text(str(seconds))
            user = 1010 + number
            hidden = server.get(f"/v1/recommend/{user}?n=1").json["items"][0]["item_id"]
            events = [
                {"type": "hide", "user_id": user, "item_id": hidden, "event_id": f"hide-{number}"},
                {"type": "like", "user_id": 1008, "item_id": f"i{number}", "event_id": f"like-{number}"},
            ]
            reply = server.post("/v1/events", events)
            assert reply.status == 200 and reply.json["accepted"] == 2, reply.body
            sent |= {event["event_id"] for event in events}
            assert hidden not in server.items(f"/v1/recommend/{user}?n=100")
            assert len(server.items("/v1/recommend/1008?n=5")) == 5
    finally:
        assert server.stop() == 0
    held_against(folder, sent)


@pytest.mark.parametrize("harm", ["cut", "overwritten", "gone"])
def test_a_damaged_state_is_made_again_from_the_log_and_nobody_notices(folder, harm):
    server = Server.start(folder, "--set", "serving.warm_up=0")
    hidden = server.items("/v1/recommend/1009?n=3")
    events = [{"type": "hide", "user_id": 1009, "item_id": i, "event_id": f"h-{i}"} for i in hidden]
    assert server.post("/v1/events", events).json["accepted"] == 3
    assert server.stop() == 0
    state = folder / "artifacts" / "events" / "state.db"
    content = bytearray(state.read_bytes())
    if harm == "cut":
        state.write_bytes(content[: len(content) // 2])
    elif harm == "overwritten":
        half = len(content) // 2
        content[half : half + 2_000] = bytes(2_000)
        state.write_bytes(content)
    else:
        state.unlink()
    server = Server.start(folder, "--set", "serving.warm_up=0")
    try:
        assert not {*hidden} & {*server.items("/v1/recommend/1009?n=100")}
        assert server.get("/health/ready").json["status"] == "ready"
    finally:
        assert server.stop() == 0
    held_against(folder, {event["event_id"] for event in events})


def test_a_state_of_now_that_is_damaged_under_the_server_leaves_it_answering(folder):
    server = Server.start(folder, "--set", "serving.refresh_seconds=1", "--set", "serving.warm_up=0")
    try:
        places = folder / "artifacts" / "events" / "live"
        since = time.monotonic()
        while not list(places.glob("*.state")):
            assert time.monotonic() - since < 60
            time.sleep(0.1)
        for _ in range(10):
            for place in places.glob("*.state"):
                place.unlink(missing_ok=True)  # whoever has mapped it keeps it, whoever opens it finds none
            assert server.get("/v1/recommend/1010?n=3").status == 200
            time.sleep(0.3)
        told, since = counted(server, "recsys_refreshes_total"), time.monotonic()
        while counted(server, "recsys_refreshes_total") <= told:
            assert time.monotonic() - since < 60
            time.sleep(0.2)
    finally:
        assert server.stop() == 0


def test_slates_that_are_damaged_are_refused_before_anything_is_served(folder):
    (folder / "slates.parquet").write_bytes(b"PAR1 and then nothing that could be read")
    command = [sys.executable, "-m", "recsys_cli", "serve", "-c", "recsys.yaml", "--port", "0"]
    options = ["--set", "serving.mode=batch", "--set", "serving.slates=slates.parquet"]
    said = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=60)
    assert said.returncode == 4 and "slates.parquet cannot be read" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 3 and "Traceback" not in said.stderr
