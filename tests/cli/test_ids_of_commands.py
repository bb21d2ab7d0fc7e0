"""Ids as people type them and as files hold them."""

from __future__ import annotations

import io
import time
import typing
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from rich.table import Table

from recsys_cli.cli.common import Invocation, command, run
from recsys_cli.cli.recommend import MOST_IDS, _read_ids, split_history
from recsys_cli.data.importer.text import read_lines
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import DataError, UsageError
from recsys_cli.terminal import console


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("i,1,007", ["i,1", "007"]),
        ("007, i;2", ["007", "i;2"]),
        ("x,i,1,y", ["x", "i,1", "y"]),
        ("a,b,c", ["a,b,c"]),
        (" ,", []),
        ("i", ["i"]),
    ],
)
def test_an_id_of_a_history_may_hold_commas(text, ids):
    known = Vocabulary(np.array(["i,1", "007", "i;2", "a", "a,b,c"], object))
    assert split_history(text, known) == ids


def test_a_history_of_fifty_thousand_ids_is_split_at_once_and_one_beyond_any_is_refused():
    known = Vocabulary(np.array(["i,1", "a,b,c", "x"], object))
    began = time.process_time()
    ids = split_history(",".join(["i", "1", "x"] * 16_000 + ["y" * 100_000]), known)
    assert ids == ["i,1", "x"] * 16_000 + ["y" * 100_000] and time.process_time() - began < 1
    with pytest.raises(UsageError, match="100,001 ids"):
        split_history("," * MOST_IDS, known)


@pytest.mark.parametrize(("content", "ids"), [
    ("1\n\n20\n", ["1", "20"]), ("user_id\n20\n", ["20"]), ("7\n9\n", ["7", "9"]),
])
def test_ids_of_a_file_may_have_a_head_and_may_be_new(tmp_path, content, ids):
    (tmp_path / "users.txt").write_text(content)
    assert _read_ids(tmp_path / "users.txt", Vocabulary(np.array([1, 20]))) == ids


@pytest.mark.parametrize(("content", "place"), [
    (b"1\n20,5,x\n", "line 2 column 3"), (b"user_id,item_id\n1,2\n", "line 1 column 1"),
    (b"\n1\n20\tx\n", "line 3 column 3"), (b"1\n2\x001\n", "line 2 column 2"),
    (b"\x89PNG\r\n\x1a\n", "line 1"), (b"PAR1\x15\x04\x15", "column 5"),
])
def test_a_users_file_of_something_else_is_refused_by_line_and_column(tmp_path, content, place):
    (tmp_path / "users.txt").write_bytes(content)
    for known in (Vocabulary(np.array([1, 20])), Vocabulary(np.array(["1", "20"], object))):
        if content.startswith(b"user") and known.is_text:
            place = "line 1 column 8"
        with pytest.raises(DataError, match=place) as caught:
            _read_ids(tmp_path / "users.txt", known)
        assert "one user id a line" in caught.value.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_users_of_a_file_are_read_whatever_its_byte_order_mark(tmp_path, encoding):
    (tmp_path / "users.txt").write_bytes("7\r\né\n\n 9 \n".encode(encoding))
    assert read_lines(tmp_path / "users.txt", "one user id a line") == {1: "7", 2: "é", 4: "9"}


def test_a_users_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    (tmp_path / "users.txt").write_bytes("José".encode("latin-1"))
    for name in ("none.txt", "users.txt"):
        with pytest.raises(DataError, match=name) as caught:
            read_lines(tmp_path / name, "one user id a line")
        assert "one user id a line" in caught.value.hint


@pytest.mark.parametrize("name", [":100:", "[/z]", "nobody [/x]", "a[/b]c"])
def test_names_that_look_like_markup_or_emoji_are_printed_as_they_stand(name):
    out = io.StringIO()
    table = Table("name")
    table.add_row(name)
    console(file=out, width=60).print(name, table)
    assert out.getvalue().count(name) == 2


def test_data_moves_no_cursor_and_turns_no_text():
    out = io.StringIO()
    table = Table("a")
    table.add_row("x\x1b[31m\u202eevil\ttab\x07")
    console(file=out, width=60).print("y\x1b]0;title\x07", table)
    assert not set(out.getvalue()) & set("\x1b\x07\u202e\t")
    assert "evil tab" in out.getvalue()


@pytest.mark.parametrize("command", ["similar-items", "similar-users"])
@pytest.mark.parametrize("name", ["-3", "--all", "-x7"])
def test_an_id_may_begin_with_a_hyphen(command, name, monkeypatch):
    from recsys_cli.cli import similar

    asked = []

    def ask(one, number, source):
        asked.append((one, number, source))

    engine = SimpleNamespace(similar_items=ask, similar_users=ask)
    monkeypatch.setattr(similar, "_engine", lambda call, run: engine)
    monkeypatch.setattr(similar, "_emit", lambda call, found: None)
    assert run([command, name, "-n", "4", "--source", "als"]) == 0
    assert run([command, "-n", "4", "--source", "als", "--", name]) == 0
    assert asked == [(name, 4, "als")] * 2
    assert run([command, "7", "--sorce", "als"]) == 2


@pytest.mark.parametrize("text", ["-3", "--all"])
def test_options_take_ids_that_begin_with_a_hyphen(text):
    asked = []
    group = typer.Typer()

    @command(group, "ask")
    def ask(call: Invocation, user: typing.Annotated[list[str] | None, typer.Option("--user", "-u")] = None) -> None:
        asked.append(user)

    @command(group, "other")
    def other(call: Invocation) -> None: ...

    group(["ask", "--user", text, "-u", text], standalone_mode=False)
    assert asked == [[text, text]]
