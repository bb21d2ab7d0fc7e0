"""`recsys docs`, and the files that come with the program."""

import json
from pathlib import Path

import pytest

from recsys_cli import docs, shipped
from recsys_cli.cli import common
from recsys_cli.errors import UsageError


def run(capsysbinary, *arguments: str) -> tuple[int, str, str]:
    code = common.run(list(arguments))
    captured = capsysbinary.readouterr()
    return code, captured.out.decode(), captured.err.decode()


def test_docs_lists_every_page_by_chapter(capsysbinary):
    code, out, _ = run(capsysbinary, "docs")
    assert code == 0 and all(chapter in out for chapter in docs.CHAPTERS)
    first = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [word for word in first if word in docs.PAGES] == list(docs.PAGES)


def test_docs_shows_a_page_within_the_width_of_the_terminal(capsysbinary, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    code, out, _ = run(capsysbinary, "docs", "ranking")
    assert code == 0 and "What orders the lists" in out and "```" not in out
    assert max(map(len, out.splitlines())) <= 90


def test_in_the_terminal_a_link_is_a_command_and_a_picture_its_description():
    from recsys_cli.cli.docs import for_terminal

    assert for_terminal("see [runs](runs.md#start), [here](#top)") == "see runs (`recsys docs runs`), here"
    assert for_terminal("![A slate](images/slate.svg)") == "*(picture: A slate)*"
    for name in docs.PAGES:
        assert ".md)" not in for_terminal(docs.read(name)) and ".md#" not in for_terminal(docs.read(name)), name


def test_docs_as_json_holds_the_markdown(capsysbinary):
    _, out, _ = run(capsysbinary, "docs", "safety.md", "--format", "json")
    assert json.loads(out) == {"page": "safety", "title": "Safety", "text": docs.read("safety")}


def test_an_unknown_page_is_refused_with_the_nearest(capsysbinary):
    code, out, err = run(capsysbinary, "docs", "rankng")
    assert (code, out) == (UsageError.exit_code, "")
    assert err == "recsys: no page 'rankng'\ndid you mean 'ranking'?\n"


def test_a_page_goes_through_a_pager_on_a_terminal_alone(capsysbinary, monkeypatch):
    import pydoc
    import sys

    paged = []
    monkeypatch.setattr(pydoc, "pager", paged.append)
    run(capsysbinary, "docs", "security")
    assert not paged
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    run(capsysbinary, "docs", "security")
    assert len(paged) == 1 and "Security" in paged[0]


@pytest.mark.parametrize("name", ["configs/experiments/aa.yaml", "configs/import/template.yaml"])
def test_a_shipped_configuration_is_found_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = shipped.find(Path(name))
    assert found == shipped.configurations() / Path(name).relative_to("configs") and found.is_file()


def test_what_stands_here_comes_before_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("configs/experiments/aa.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("name: own\n")
    assert shipped.find(own) == own


@pytest.mark.parametrize("name", ["configs/none.yaml", "other/aa.yaml", "configs/../pyproject.toml", "aa.yaml"])
def test_what_is_not_shipped_stays_what_was_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert shipped.find(Path(name)) == Path(name)


def test_the_projects_file_is_read_before_the_checkouts(tmp_path, monkeypatch, capsysbinary):
    for variable in ("RECSYS_CONFIG", "RECSYS_SET", "RECSYS_FORMAT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)

    def seed(*arguments: str) -> int:
        return json.loads(run(capsysbinary, "config", "show", "--format", "json", *arguments)[1])["config"]["seed"]

    assert seed() == 42
    Path("configs").mkdir()
    Path("configs/default.yaml").write_text("seed: 1\n")
    assert seed() == 1
    Path("recsys.yaml").write_text("seed: 2\n")
    assert seed() == 2
    Path("other.yaml").write_text("seed: 3\n")
    assert seed("--config", "other.yaml") == 3
