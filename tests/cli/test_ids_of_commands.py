"""Ids as people type them and as files hold them."""

from __future__ import annotations

import io
import typing
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from rich.table import Table

from recsys_cli.cli.common import Invocation, command, run
from recsys_cli.cli.recommend import split_history
from recsys_cli.data.importer.text import read_lines
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import DataError
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_users_of_a_file_are_read_whatever_its_byte_order_mark(tmp_path, encoding):
    (tmp_path / "users.txt").write_bytes("7\r\né\n\n 9 \n".encode(encoding))
    assert read_lines(tmp_path / "users.txt", "one user id a line") == ["7", "é", "9"]


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
