"""YAML that is built to hang, to fill the memory or to fall outside what settings are is refused in a line."""

import os
import resource
import subprocess
import sys
import time

import pytest

from recsys_cli.config import parse_override, resolve
from recsys_cli.errors import ConfigError
from recsys_cli.settings import Settings
from recsys_cli.yaml_reader import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_NODES, line_of, read_yaml

NINES = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]" for i in range(9))
DOUBLES = "\n".join(f"b{i}: &b{i} {{<<: *b{i - 1}, k{i}: *b{i - 1}}}" if i else "b0: &b0 {k: 1}" for i in range(40))
BOMBS = {
    "aliases nine to the eighth": NINES,
    "merged doublings": DOUBLES,
    "aliases that deepen": "\n".join(f"c{i}: &c{i} [{f'*c{i - 1}' if i else 'x'}]" for i in range(MAX_DEPTH + 2)),
    "a list of 5 MB": "a:\n" + "- 1\n" * 1_250_000,
    "a list of as many bytes as may be": "a: [" + "1," * (MAX_BYTES // 2 - 4) + "]",
    "deep flow": "a: " + "[" * 400_000,
    "deep block": "- " * 400_000,
    "many aliases": "a: &a 1\nb: [" + ", ".join(["*a"] * (MAX_ALIASES + 1)) + "]",
    "many documents": "---\n" * 200_000,
    "open keys": "? " * 400_000,
}
ODD = {
    "a: 1\npaths: &p\n  data: *p\n": (2, "within what it names"),
    "a: 1\n? [x, y]\n: 2\n": (2, "cannot be a key"),
    "? {x: y}\n: 2\n": (1, "cannot be a key"),
    "a: 1\nb: !!timestamp 2020-99-99\n": (2, "timestamp"),
    "seed: !!int abc\n": (1, "is no int"),
    "seed: !!bool maybe\n": (1, "is no bool"),
    "seed: !!float x\n": (1, "is no float"),
    f"a: 1\nseed: {'9' * 5000}\n": (2, "5,000 characters"),
    f"seed: 0x{'f' * 5000}\n": (1, "characters"),
    "a: !!python/object/apply:os.system [x]\n": (1, "tag"),
    "a: !!set {x}\n": (1, "tag"),
    "a: !!binary x\n": (1, "tag"),
    "<<: 3\n": (1, "takes a mapping"),
    "a: !mine x\n": (1, "tag"),
}


def recsys(path, *arguments):
    def limits():
        resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000))

    return subprocess.run(
        [sys.executable, "-m", "recsys_cli", "config", "validate", "-c", str(path), *arguments], capture_output=True,
        text=True, timeout=60, preexec_fn=limits, cwd=path.parent, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_a_second(tmp_path, name):
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMBS[name])
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert time.process_time() - started < 1
    assert "bomb.yaml" in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["aliases nine to the eighth", "a list of as many bytes as may be", "deep flow"])
def test_the_program_refuses_a_bomb_in_little_memory_with_exit_3(tmp_path, name):
    (tmp_path / "bomb.yaml").write_text(BOMBS[name])
    done = recsys(tmp_path / "bomb.yaml")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr and "bomb.yaml" in done.stderr


@pytest.mark.parametrize("text", ODD)
def test_what_settings_never_hold_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    line, words = ODD[text]
    with pytest.raises(ConfigError) as caught:
        resolve(Settings, file=path)
    assert f"line {line}" in caught.value.message and words in caught.value.message
    assert "\n" not in caught.value.message and len(caught.value.message) < 400


@pytest.mark.parametrize("content", [b"a: \xff\n", b"a: \x00\n", b"\x07"])
def test_bytes_that_are_no_text_are_refused(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError):
        read_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize("path", ["/dev/zero", ".", "a\0b", "x" * 300])
def test_what_is_no_file_of_settings_is_refused(path):
    with pytest.raises(ConfigError):
        read_yaml(path)


def test_the_bounds_are_exact(tmp_path):
    path = tmp_path / "c.yaml"
    # the mapping, its key and its list are nodes too
    path.write_text("a: [" + "1," * (MAX_NODES - 3) + "]")
    assert len(read_yaml(path)["a"]) == MAX_NODES - 3
    path.write_text("a: [" + "1," * (MAX_NODES - 2) + "]")
    with pytest.raises(ConfigError, match="keys and values"):
        read_yaml(path)
    path.write_text("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    with pytest.raises(ConfigError, match="must hold a mapping"):
        read_yaml(path)
    path.write_text("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    with pytest.raises(ConfigError, match="within one another"):
        read_yaml(path)
    path.write_text("a: 1\n#" + "x" * (MAX_BYTES - 6))
    assert read_yaml(path) == {"a": 1}
    path.write_text("a: 1\n#" + "x" * (MAX_BYTES - 5))
    with pytest.raises(ConfigError, match="larger than"):
        read_yaml(path)


def test_aliases_and_merges_that_are_meant_are_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("base: &b {x: 1, y: 2020-99-99}\nmine:\n  <<: *b\n  x: 2\nlist: [*b, *b]\n")
    base = {"x": 1, "y": "2020-99-99"}
    assert read_yaml(path) == {"base": base, "mine": base | {"x": 2}, "list": [base, base]}
    assert [line_of(path, keys) for keys in (("mine", "x"), ("list", 1), ("nothing",))] == [4, 1, None]


def test_the_loader_is_the_one_in_c_where_it_was_built():
    import yaml

    from recsys_cli.yaml_reader import _loader

    assert issubclass(_loader(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@pytest.mark.parametrize(
    "text", ["seed=!!int abc", f"seed={'9' * 5000}", "a=&a [*a]", "a=[[", f"{'a.' * 2000}b=1", "a={[1]: 2}", "a=\udcff"]
)
def test_values_of_the_command_line_go_through_the_same_reader(text):
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert "--set" in caught.value.message and len(caught.value.message) < 400


def test_values_of_the_command_line_are_those_of_files():
    assert parse_override("a=2020-99-99") == (["a"], "2020-99-99")
    assert parse_override("a=yes") == (["a"], "yes")
