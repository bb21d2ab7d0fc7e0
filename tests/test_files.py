"""Outputs are whole or not there at all."""

import subprocess
import sys

import pytest

from recsys_cli.files import atomic_dir, atomic_file, file_digest, write_bytes


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_failing_write_leaves_the_earlier_file_and_no_litter(tmp_path):
    target = tmp_path / "out.json"
    write_bytes(target, b"before")
    with pytest.raises(ValueError), atomic_file(target) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError
    assert target.read_bytes() == b"before"
    assert left(tmp_path) == ["out.json"]


def test_a_folder_is_swapped_whole(tmp_path):
    target = tmp_path / "set"
    for content in ("one", "two"):
        with atomic_dir(target, ours=lambda folder: {"one.txt"}) as folder:
            (folder / f"{content}.txt").write_text(content)
    assert left(target) == ["two.txt"]
    assert left(tmp_path) == ["set"]


def test_an_interrupted_folder_leaves_the_earlier_one(tmp_path):
    target = tmp_path / "set"
    with atomic_dir(target) as folder:
        (folder / "one.txt").write_text("one")
    with pytest.raises(KeyboardInterrupt), atomic_dir(target, ours=left) as folder:
        (folder / "two.txt").write_text("two")
        raise KeyboardInterrupt
    assert left(target) == ["one.txt"]
    assert left(tmp_path) == ["set"]


def test_a_full_disk_is_told_in_words_and_changes_nothing(tmp_path):
    """A file-size limit stands in for a full disk: the kernel refuses the write in the same place."""
    target = tmp_path / "out.bin"
    target.write_bytes(b"before")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from recsys_cli.files import write_bytes\n"
        "write_bytes(sys.argv[1], b'x' * 100000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True)
    assert "cannot write" in done.stderr and "File too large" in done.stderr
    assert target.read_bytes() == b"before"
    assert left(tmp_path) == ["out.bin"]


def test_the_digest_follows_the_bytes(tmp_path):
    for name, content in (("a", b"same"), ("b", b"same"), ("c", b"other")):
        (tmp_path / name).write_bytes(content)
    digests = [file_digest(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 32
