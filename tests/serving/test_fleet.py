"""Several servers that remember people together, and events that come from a stream."""

import json
import shutil
import socket
import subprocess
import time

import pytest
import redis
from server_process import Server, copy_of

pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs Debian's redis-server")
]


@pytest.fixture
def store(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    client = redis.Redis(port=port)
    for _ in range(200):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    yield port, client, process
    process.kill()
    process.wait()


def within(seconds, holds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_two_servers_remember_together_read_a_stream_and_go_on_without_redis(served_folder, tmp_path, store):
    port, client, process = store
    servers = []
    try:
        for name in ("a", "b"):
            options = {"url": f"redis://127.0.0.1:{port}/0", "server": name}
            if name == "a":
                options |= {"events": "in", "log": "out"}
            folder = copy_of(served_folder, tmp_path / name)
            servers.append(Server.start(folder, "--set", f"serving.redis={json.dumps(options)}"))
        a, b = servers
        victim = a.get("/v1/recommend/1003?n=1").json["items"][0]["item_id"]
        a.post("/v1/events", {"type": "hide", "user_id": 1003, "item_id": victim})
        assert victim not in b.items("/v1/recommend/1003?n=100")
        client.xadd("in", {"event": json.dumps({"type": "like", "user_id": 1010, "item_id": "i7"})})
        within(30, lambda: "i7" in b.get("/v1/users/1010").json["history"][:1])
        within(30, lambda: client.xlen("out") >= 2)
        process.kill()
        process.wait()
        assert a.post("/v1/events", {"type": "hide", "user_id": 1004, "item_id": "i9"}).status == 200
        assert "i9" not in a.items("/v1/recommend/1004?n=100")
        within(30, lambda: any("Redis" in r for r in a.get("/health/ready").json["reasons"]))
    finally:
        for server in servers:
            server.stop()
