"""The server as a process: how it starts, stops, changes runs, and what it does when things go wrong."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kills import kill_again_and_again
from server_process import Server, second_run


def recsys(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "recsys_cli", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_with_nothing_trained_it_says_which_commands_are_missing(tmp_path):
    said = recsys(tmp_path, "serve")
    assert said.returncode == 5
    assert "recsys generate-data" in said.stderr and "recsys train" in said.stderr and "--demo" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 2


def test_a_port_in_use_and_an_open_address_without_keys_are_refused(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = recsys(folder, "serve", "-c", "recsys.yaml", "--port", str(taken.getsockname()[1]))
    assert said.returncode == 3 and "is in use" in said.stderr
    said = recsys(folder, "serve", "-c", "recsys.yaml", "--host", "0.0.0.0")
    assert said.returncode == 3 and "serving.keys" in said.stderr


def test_keys_open_what_their_roles_say_and_are_printed_nowhere(folder):
    key = "k" * 32
    text = (folder / "recsys.yaml").read_text()
    keys = "serving: {keys: [{name: app, key: '${APP_KEY}', roles: [read]}], warm_up: 0}"
    (folder / "recsys.yaml").write_text(text[: text.index("serving:")] + keys)
    said = recsys(folder, "config", "show", "-c", "recsys.yaml")
    assert "${APP_KEY}" in said.stdout and key not in said.stdout
    server = Server.start(folder, env={"APP_KEY": key})
    try:
        assert server.get("/v1/recommend/1001").status == 401
        assert server.get("/v1/recommend/1001", headers={"x-api-key": key}).status == 200
        assert server.get("/v1/recommend/1001", headers={"authorization": f"Bearer {key}"}).status == 200
        assert server.post("/v1/events", {"type": "like"}, headers={"x-api-key": key}).status == 403
        assert server.get("/health/ready").status == 200
        assert key not in server.get("/metrics", headers={"x-api-key": key}).body.decode()
    finally:
        server.stop()
    assert key not in "".join(server.errors)
    held = [p for p in (folder / "artifacts").rglob("*") if p.is_file() and key.encode() in p.read_bytes()]
    assert not held


def test_a_second_server_of_the_same_log_is_refused_and_the_first_goes_on(server):
    said = recsys(server.folder, "serve", "-c", "recsys.yaml", "--port", "0")
    assert said.returncode == 5 and "server that runs" in said.stderr
    assert server.get("/v1/recommend/1001").status == 200


def test_pages_of_other_names_and_origins_are_kept_out(server):
    assert server.get("/v1/popular", headers={"host": "evil.example"}).status == 421
    assert server.get("/v1/popular", headers={"origin": "https://evil.example"}).status == 403


def test_half_requests_disconnects_and_pipelines_do_no_harm(server):
    place = urlsplit(server.url)

    def raw(data: bytes) -> bytes:
        with socket.create_connection((place.hostname, place.port), timeout=20) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            got = b""
            while part := sock.recv(65536):
                got += part
            return got

    host = b"Host: localhost\r\n"
    two = b"GET /health/live HTTP/1.1\r\n" + host + b"\r\n"
    with socket.create_connection((place.hostname, place.port), timeout=20) as sock:
        sock.sendall(two * 3)
        got = b""
        while got.count(b'{"status":"alive"}') < 3:
            got += sock.recv(65536)
    for broken in (b"GET /v1/po", b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                   b"POST /v1/events HTTP/1.1\r\n" + host + b"Content-Length: 100\r\n\r\n{",
                   b"POST /v1/events HTTP/1.1\r\n" + host + b"Content-Length: x\r\n\r\n{"):
        assert b" 200 " not in raw(broken)
    assert server.get("/health/ready").status == 200


def test_an_older_run_is_promoted_and_rolled_back_without_a_failed_request(folder):
    other = second_run(folder)
    server = Server.start(folder)
    failures, answers, stop = [], [], threading.Event()

    def ask(at: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        while not stop.is_set():
            connection.request("GET", f"/v1/recommend/{1000 + at}?n=3")
            answer = connection.getresponse()
            body = answer.read()
            answers.append(json.loads(body).get("run_id"))
            if answer.status != 200:
                failures.append(body)

    try:
        with ThreadPoolExecutor(3) as threads:
            asking = [threads.submit(ask, at) for at in range(3)]
            first = server.get("/health/ready").json["run_id"]
            switched = server.post(f"/v1/runs/{other}/promote").json
            assert switched == {"run_id": other, "before": first}
            assert (folder / "artifacts" / "current").read_text().strip() == other
            assert server.get("/v1/recommend/1050").json["run_id"] == other
            assert server.post("/v1/runs/rollback").json["run_id"] == first
            time.sleep(0.2)
            stop.set()
            for future in asking:
                future.result(60)
        assert not failures and {first, other} <= set(answers)
        assert server.post("/v1/runs/nothing/promote").status == 404
        (folder / "artifacts" / "runs" / other / "bundle" / "bundle.json").write_text("{")
        refused = server.post(f"/v1/runs/{other}/promote")
        assert refused.status == 409 and str(folder) not in refused.body.decode()
        assert server.get("/v1/recommend/1001").status == 200
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_what_is_made_the_run_in_use_elsewhere_is_followed(folder):
    other = second_run(folder)
    server = Server.start(folder)
    try:
        assert recsys(folder, "runs", "use", other, "-c", "recsys.yaml").returncode == 0
        deadline = time.monotonic() + 60
        while server.get("/health/ready").json["run_id"] != other:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        server.stop()


@pytest.mark.slow
def test_a_run_that_is_deleted_under_the_server_is_served_on(folder):
    server = Server.start(folder)
    try:
        shutil.rmtree(folder / "artifacts" / "runs")
        assert server.get("/v1/recommend/1002").status == 200
        assert server.get("/v1/items/i5/similar").status == 200
        assert server.get("/v1/runs").json["runs"] == []
    finally:
        server.stop()


def children(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parts = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parts[1]) == pid:
            found.append(int(place.parent.name))
    return found


@pytest.mark.slow
def test_when_the_builder_of_pools_dies_answers_go_on_and_it_comes_back(folder):
    server = Server.start(folder, "--set", "serving.pool.wait_ms=200")
    try:
        for pid in children(server.process.pid):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, 9)
        assert server.get("/v1/recommend/1044?n=3").status == 200
        deadline, user = time.monotonic() + 60, 1020
        while server.get(f"/v1/recommend/{user}?n=3").json.get("fallback") == "pool_pending":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert server.get("/health/ready").json["status"] == "ready"
    finally:
        server.stop()


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_counted_twice_when_the_server_is_killed(folder):
    users, items = [str(u) for u in range(1000, 1040)], [f"i{i}" for i in range(120)]
    told = kill_again_and_again(folder, 10, users, items, options=("--set", "serving.warm_up=0"))
    assert told["acknowledged"] > 200 and told["people"] == 40


@pytest.mark.slow
def test_an_ordered_stop_answers_what_runs_and_writes_what_was_served(folder):
    server = Server.start(folder)
    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(server.get, f"/v1/recommend/{1000 + u}?n=3") for u in range(20)]
        time.sleep(0.1)
        done = [f for f in asking if f.done()]
        assert server.stop() == 0
        for future in asking:
            if future.exception() is None:
                done.append(future)
    from recsys_cli.serving.event_log import read_log

    logged = {e.event.request_id for e in read_log(folder / "artifacts" / "events") if e.event.type == "served"}
    assert {f.result().json["request_id"] for f in done} <= logged


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["realtime", "batch"])
def test_other_modes_give_the_same_lists(folder, engine, mode):
    options = ["--mode", mode]
    if mode == "batch":
        slates = folder / "slates.parquet"
        assert recsys(folder, "recommend", "--all", "-n", "40", "-c", "recsys.yaml", "-o", str(slates)).returncode == 0
        options += ["--set", f"serving.slates={slates}", "--set", "serving.mode=batch"]
    server = Server.start(folder, *options)
    try:
        for user in (1003, 1017):
            expected = [r.item_id for r in engine.recommend(user, 8).items]
            assert server.items(f"/v1/recommend/{user}?n=8") == expected
        victim = server.get("/v1/recommend/1018?n=1").json["items"][0]["item_id"]
        server.post("/v1/events", {"type": "hide", "user_id": 1018, "item_id": victim})
        assert victim not in server.items("/v1/recommend/1018?n=30")
    finally:
        server.stop()


@pytest.mark.slow
def test_a_disk_that_is_full_refuses_events_and_goes_on_reading_until_there_is_space(folder):
    """Files of the process may not grow, as on a full disk."""
    import resource

    server = Server.start(folder)
    told = [{"type": "click", "user_id": 1001, "item_id": "i1", "session_id": "x" * 190} for _ in range(500)]
    try:
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        replies = [server.post("/v1/events", told) for _ in range(3)]
        assert replies[-1].status == 507 and replies[-1].json["error"] == "disk_full"
        assert server.get("/v1/recommend/1002").status == 200
        ready = server.get("/health/ready")
        assert ready.status == 200 and "disk is full" in ready.json["reasons"][0]
        assert 'recsys_alerts_total{kind="disk_full"}' in server.get("/metrics").body.decode()
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert server.post("/v1/events", told).json["accepted"] == 500
        assert server.get("/health/ready").json["status"] == "ready"
    finally:
        server.stop()


@pytest.mark.slow
def test_a_slow_client_is_let_go_of(folder):
    server = Server.start(folder, "--set", "serving.body_seconds=0.5")
    try:
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port), timeout=20) as sock:
            sock.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n[")
            assert b" 408 " in sock.recv(65536)
        assert server.get("/v1/popular").status == 200
    finally:
        server.stop()


@pytest.mark.slow
def test_a_caller_who_asks_too_often_is_told_when_to_come_back(folder):
    server = Server.start(folder, "--set", "serving.requests_per_second=2")
    try:
        replies = [server.get("/v1/popular?n=1") for _ in range(6)]
        refused = [r for r in replies if r.status == 429]
        assert refused and int(refused[0].headers["retry-after"]) >= 1
        assert server.get("/health/live").status == 200
    finally:
        server.stop()
