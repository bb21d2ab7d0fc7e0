"""What is no regular file is written through, and a link is followed: neither is replaced by a file."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from recsys_cli.errors import RecsysError
from recsys_cli.files import atomic_file, write_bytes


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"x" * 1_000_000])
def test_a_pipe_gets_the_content_and_stays_a_pipe(tmp_path, content):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, content)
    reader.join(10)
    assert got == [content]
    assert stat.S_ISFIFO(pipe.stat().st_mode) and names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_device_stays_a_device(tmp_path, through_a_link):
    place = "/dev/null"
    if through_a_link:
        place = tmp_path / "link"
        place.symlink_to("/dev/null")
    write_bytes(place, b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert not through_a_link or (place.is_symlink() and names(tmp_path) == ["link"])


def test_a_full_device_is_told_in_words():
    with pytest.raises(RecsysError, match="No space left on device"):
        write_bytes("/dev/full", b"x" * 100_000)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_its_target_replaced_whole(tmp_path, there):
    (tmp_path / "disk").mkdir()
    target = tmp_path / "disk" / "out.csv"
    if there:
        target.write_bytes(b"before")
    (tmp_path / "second").symlink_to("disk/out.csv")
    (tmp_path / "first").symlink_to("second")
    with pytest.raises(ValueError), atomic_file(tmp_path / "first") as temporary:
        temporary.write_bytes(b"half")
        raise ValueError
    assert target.exists() == there
    write_bytes(tmp_path / "first", b"after")
    assert target.read_bytes() == b"after" and not target.is_symlink()
    assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()
    assert names(tmp_path) == ["disk", "first", "second"] and names(tmp_path / "disk") == ["out.csv"]


def test_links_in_a_circle_are_refused_and_stay(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(RecsysError, match="symbolic links"):
        write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").is_symlink() and (tmp_path / "b").is_symlink()


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "link"])
def test_standard_output_by_name_appends_to_what_it_is_appended_to(tmp_path, place):
    (tmp_path / "log").write_text("earlier\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = "import sys; from recsys_cli.files import write_bytes; write_bytes(sys.argv[1], b'now\\n')"
    with open(tmp_path / "log", "ab") as log:
        subprocess.run([sys.executable, "-c", code, place], stdout=log, check=True, cwd=tmp_path)
    assert (tmp_path / "log").read_text() == "earlier\nnow\n"
    piped = subprocess.run([sys.executable, "-c", code, place], stdout=subprocess.PIPE, check=True, cwd=tmp_path)
    assert piped.stdout == b"now\n"


def test_a_failed_block_sends_nothing_through_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(ValueError), atomic_file(pipe) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_a_folder_in_the_place_of_a_file_is_refused_and_stays(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(RecsysError, match="Is a directory"):
        write_bytes(tmp_path / "out", b"x")
    assert names(tmp_path) == ["out"]
