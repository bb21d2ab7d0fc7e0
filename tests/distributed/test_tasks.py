"""Tasks without a cluster: what is said where there is none, and what travels to machines that do not see the files."""

import http.server
import os
import pickle
import socket
import threading
import time

import pytest

from recsys_cli import cluster
from recsys_cli.cli.common import run
from recsys_cli.cluster import Here, RayConfig, tasks_of
from recsys_cli.config import validate
from recsys_cli.errors import ConfigError, RecsysError, UsageError
from recsys_cli.parcel import Absent, Parcel
from recsys_cli.progress import Progress


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def joined(**settings):
    return tasks_of("ray", RayConfig(**settings), 1, Progress())


def test_here_tasks_are_calls_in_their_order():
    tasks = Here()
    assert list(tasks.map(pow, [1, 2, 3], 2)) == [2, 4, 8]
    assert tasks.begin(divmod, 7, tasks.share(2)).result() == (3, 1)


def test_without_ray_the_extra_is_named(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed") as told, joined():
        pass
    assert told.value.exit_code == 2 and "recsys-cli[distributed]" in told.value.hint
    (tmp_path / "space.yaml").write_text("name: a\nsearch: {retrieval.als.dim: {low: 8, high: 16}}\n")
    assert run(["tune", str(tmp_path / "space.yaml"), "--engine", "ray", "--quiet"]) == 2
    assert "recsys-cli[distributed]" in capfd.readouterr().err


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch):
    pytest.importorskip("ray", reason="the extra `distributed` is not installed")
    address, begun = f"127.0.0.1:{unused_port()}", time.monotonic()
    with pytest.raises(RecsysError, match=f"no Ray cluster answers at {address}") as told, joined(address=address):
        pass
    assert told.value.exit_code == 1 and "ray.address" in told.value.hint
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RecsysError, match=address), joined():
        pass
    assert time.monotonic() - begun < 20


def test_what_answers_and_is_no_cluster_is_not_waited_for_longer_than_allowed():
    pytest.importorskip("ray", reason="the extra `distributed` is not installed")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    begun = time.monotonic()
    with (
        pytest.raises(RecsysError, match="is no Ray cluster"),
        joined(address=f"127.0.0.1:{server.server_port}", connect_seconds=2),
    ):
        pass
    assert time.monotonic() - begun < 30
    server.shutdown()


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:0", "head:70000", ":6379"])
def test_an_address_that_names_no_machine_of_a_cluster_is_refused(address):
    with pytest.raises(ConfigError, match="host:port"):
        validate(RayConfig, {"address": address})


def test_files_are_used_where_they_are_seen_and_else_copied_once(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "other machine"))
    (tmp_path / "other machine").mkdir()
    run_folder = tmp_path / "artifacts" / "runs" / "one"
    run_folder.mkdir(parents=True)
    (run_folder / "manifest.json").write_text('{"digest": 1}')
    (run_folder / "empty.bin").touch()
    (run_folder / "large.bin").write_bytes(os.urandom(1000))
    monkeypatch.setattr("recsys_cli.parcel.CHUNK", 300)
    parcel = Parcel.of(tmp_path / "artifacts", "runs/one")
    assert parcel.opened() == tmp_path / "artifacts"

    content = {p.name: p.read_bytes() for p in run_folder.iterdir()}
    (run_folder / "manifest.json").write_text('{"digest": 2}')  # as on a machine with another file of that name
    with pytest.raises(Absent) as lacking:
        parcel.opened()
    assert pickle.loads(pickle.dumps(lacking.value)).mark == parcel.mark
    (run_folder / "manifest.json").write_text('{"digest": 1}')

    store: dict[int, bytes] = {}

    def put(part: bytes) -> int:
        store[len(store)] = part
        return len(store) - 1

    parcel.fill(put)
    assert max(map(len, store.values())) == 300
    monkeypatch.setattr("recsys_cli.parcel._fetch", store.__getitem__)
    for path in run_folder.iterdir():
        path.unlink()
    copied = parcel.opened()
    assert {p.name: p.read_bytes() for p in (copied / "runs" / "one").iterdir()} == content
    store.clear()
    assert parcel.opened() == copied

