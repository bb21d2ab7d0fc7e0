"""`recsys tune` as it is typed: a file, a misspelt special case, a file that is not there."""

import pytest
from typer.testing import CliRunner

from recsys_cli.cli import tune
from recsys_cli.cli.common import app, run


def test_a_file_means_a_search_space_and_a_misspelt_command_is_told(tmp_path, capfd):
    assert run(["tune", "sorces"]) == 2
    assert "sources" in capfd.readouterr().err
    assert run(["tune", str(tmp_path / "none.yaml"), "--quiet"]) == 2
    told = capfd.readouterr().err
    assert "none.yaml" in told and "configs/tuning/sources.yaml" in told and len(told.splitlines()) <= 2
    (tmp_path / "space.yaml").write_text("name: a\nsearch: {retrieval.als.dmi: {low: 1, high: 2}}\n")
    assert run(["tune", str(tmp_path / "space.yaml"), "--quiet"]) == 3
    told = capfd.readouterr().err
    assert "space.yaml line 2" in told and "'dim'" in told


@pytest.mark.parametrize("arguments", [["space.yaml"], ["space", "space.yaml"]])
def test_both_spellings_are_the_same(arguments):
    assert tune.SpaceByDefault.by_default == "space"
    shown = CliRunner().invoke(app, ["tune", *arguments, "--help"])
    assert shown.exit_code == 0 and "--trials" in shown.output and "--resume" in shown.output
