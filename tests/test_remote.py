"""Files at addresses: against a real S3 interface on loopback, and against a store that breaks off."""

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import orjson
import pytest
import typer

from recsys_cli.cli.common import _destination
from recsys_cli.errors import DataError, RecsysError, UsageError
from recsys_cli.remote import MANIFEST, fetched, is_remote, local_path, published

LOG = ("user,item,at\n1,a,1700000100\n2,b,1700000200\n", "user,item,at\n3,a,1700000300\n")
MAPPING = """\
name: bucket
unknown_users: add
unknown_items: add
impressions:
  files: "log-*.csv"
  columns: {user_id: user, item_id: item, timestamp: {column: at, unit: s}}
  actions: {click: {value: true}}
"""


def recsys(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "recsys_cli", *arguments], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def keys(client, prefix: str = "") -> set[str]:
    return {o["Key"] for o in client.list_objects_v2(Bucket="shop", Prefix=prefix).get("Contents", ())}


def test_a_result_goes_to_a_bucket_and_is_told_once_it_is_there(bucket, tmp_path):
    done = recsys(tmp_path, "presets", "-o", "s3://shop/out/presets.json")
    assert (done.returncode, done.stderr) == (0, "wrote s3://shop/out/presets.json\n")
    here = recsys(tmp_path, "presets", "--format", "json")
    stored = bucket.get_object(Bucket="shop", Key="out/presets.json")["Body"].read()
    assert orjson.loads(stored) == orjson.loads(here.stdout)


def test_a_log_in_a_bucket_is_imported_whole(bucket, tmp_path):
    for number, text in enumerate(LOG):
        bucket.put_object(Bucket="shop", Key=f"logs/log-{number}.csv", Body=text.encode())
    bucket.put_object(Bucket="shop", Key="logs/readme.txt", Body=b"not named by the mapping")
    (tmp_path / "map.yaml").write_text(MAPPING)
    done = recsys(tmp_path, "import-data", "map.yaml", "--from", "s3://shop/logs", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["tables"]["impressions"] == {
        "read": 3, "rejected": 0, "merged": 0, "added": 0, "rows": 3,
    }
    absent = recsys(tmp_path, "import-data", "map.yaml", "--from", "s3://shop/elsewhere", "--to", "other")
    assert absent.returncode == 4
    assert absent.stderr.startswith("recsys: no file log-*.csv in s3://shop/elsewhere\n")


@pytest.mark.parametrize(("address", "said"), [
    ("s3://absent/x.json", "there is no bucket absent"),
    ("s3://shop", "s3://shop names no file"),
    ("s9://shop/x.json", "Protocol not known"),
])
def test_what_no_place_has_is_refused_before_the_work(bucket, address, said):
    with pytest.raises(UsageError, match=said), published(address):
        raise AssertionError("the work began")


def test_a_server_that_does_not_answer_is_one_line(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.config.conf.clear()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RecsysError, match="cannot reach s3://shop/x"), published("s3://shop/x"):
        raise AssertionError("the work began")
    s3fs.S3FileSystem.clear_instance_cache()


def export(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    document = {"export_version": 1, "files": {name: len(content) for name, content in files.items()}}
    (folder / MANIFEST).write_bytes(orjson.dumps(document))


def contents(fs, place: str) -> list[bytes]:
    """What a reader who goes by the manifest reads."""
    named = orjson.loads(fs.cat_file(f"{place}/{MANIFEST}"))["files"]
    found = [fs.cat_file(f"{place}/{name}") for name in named]
    assert [len(f) for f in found] == list(named.values())
    return found


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.makedirs("/lists", exist_ok=True)
    yield fs
    fs.store.clear()


def test_a_folder_takes_the_place_of_the_earlier_one_and_nothing_else(memory):
    with published("memory://lists/all") as folder:
        export(folder, {"part-0.csv": b"a", "part-1.csv": b"b", "part-2.csv": b"c"})
    memory.pipe_file("/lists/all/thesis.txt", b"mine")
    with published("memory://lists/all") as folder:
        export(folder, {"part-0.csv": b"A", "part-1.csv": b"B"})
    assert contents(memory, "/lists/all") == [b"A", b"B"]
    assert memory.cat_file("/lists/all/thesis.txt") == b"mine"
    assert len(memory.ls("/lists/all", detail=False)) == 4  # two parts, the manifest, what another put there


@pytest.mark.parametrize("fails_at", range(1, 4))
def test_an_upload_that_breaks_off_leaves_what_was_there(memory, monkeypatch, fails_at):
    with published("memory://lists/all") as folder:
        export(folder, {"part-0.csv": b"a", "part-1.csv": b"b"})
    before = sorted(memory.ls("/lists/all", detail=False))
    calls, put = [], type(memory).put_file

    def broken(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) == fails_at:
            raise ConnectionResetError("the line went dead")
        return put(self, *arguments, **options)

    monkeypatch.setattr(type(memory), "put_file", broken)
    with pytest.raises(RecsysError, match="the line went dead"), published("memory://lists/all") as folder:
        export(folder, {"part-0.csv": b"A", "part-1.csv": b"B"})
    assert sorted(memory.ls("/lists/all", detail=False)) == before
    assert contents(memory, "/lists/all") == [b"a", b"b"]


def test_what_arrives_short_is_an_error(memory, monkeypatch):
    monkeypatch.setattr(type(memory), "put_file", lambda self, here, there: self.pipe_file(there, b"ab"))
    with pytest.raises(RecsysError, match="2 of 5 bytes arrived"), published("memory://lists/one.csv") as path:
        path.write_bytes(b"abcde")


def test_nothing_is_put_where_the_work_fails(memory):
    with pytest.raises(DataError), published("memory://lists/one.csv") as path:
        path.write_bytes(b"half")
        raise DataError("it broke")
    assert not memory.exists("/lists/one.csv")


def test_a_key_that_climbs_out_is_refused(memory):
    memory.store["/logs/../evil.csv"] = memory.open("/logs/x.csv", "wb")
    memory.store["/logs/../evil.csv"].write(b"x")
    with pytest.raises(DataError, match="would lie outside"), fetched("memory://logs", ["../evil.csv"]):
        raise AssertionError("it was read")


def test_a_command_that_ends_with_a_code_after_its_result_puts_it_and_says_so(memory, capsys):
    with pytest.raises(typer.Exit), _destination("memory://lists/one.json") as (path, arrived):
        path.write_bytes(b"{}")
        arrived.append("wrote it")
        assert "wrote it" not in capsys.readouterr().err
        raise typer.Exit(1)
    assert memory.cat_file("/lists/one.json") == b"{}" and capsys.readouterr().err == "wrote it\n"


@pytest.mark.parametrize("output", ["./one.json", "file:///tmp/one.json", "one.json"])
def test_what_is_written_here_is_said_at_once(output):
    with _destination(output) as (path, arrived):
        assert arrived is None and path.name == "one.json"


def test_file_addresses_are_paths_here():
    assert not is_remote("file:///tmp/x.csv") and not is_remote("/tmp/x.csv") and not is_remote("C:/x")
    assert is_remote("s3://bucket/x") and is_remote("gs://bucket/x")
    assert local_path("file:///tmp/x.csv") == Path("/tmp/x.csv")
