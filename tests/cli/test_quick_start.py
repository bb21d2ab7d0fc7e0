"""A command line makes ready what it needs, and still checks what it is given."""

import subprocess
import sys

import pytest

from recsys_cli.cli import common
from recsys_cli.cli.roots import root_for
from recsys_cli.pipeline.answer_settings import AnswerSettings
from recsys_cli.settings import Settings


def test_answers_read_their_own_sections_unless_another_is_named(tmp_path):
    file = tmp_path / "recsys.yaml"
    file.write_text("seed: 7\npipeline: {slate_size: 20}\n")
    assert root_for(True, file, [("flag", {"paths": {"data": "d"}})]) is AnswerSettings
    assert root_for(True, None, [("flag", {})]) is AnswerSettings
    assert root_for(True, file, [("flag", {"ranking": {"choose": "heavy"}})]) is Settings
    assert root_for(False, file, []) is Settings
    file.write_text("retrieval: {als: {kind: als}}\n")
    assert root_for(True, file, []) is Settings
    file.write_text("pipelin: {slate_size: 20}\n")
    assert root_for(True, file, []) is Settings, "which refuses it and names the nearest"


def test_what_both_roots_have_is_the_same():
    small, whole = AnswerSettings(), Settings()
    for name in AnswerSettings.model_fields:
        assert getattr(small, name) == getattr(whole, name)
        assert AnswerSettings.model_fields[name].metadata == Settings.model_fields[name].metadata


@pytest.mark.parametrize(("arguments", "modules"), [
    (["recommend", "--user", "1"], ("recommend",)), (["ab-test", "x.yaml"], ("ab_test",)),
    (["generate-data"], common.COMMANDS), (["--help"], common.COMMANDS), ([], common.COMMANDS),
    (["recomend"], common.COMMANDS),
])
def test_a_command_loads_its_own_module(arguments, modules):
    assert common._modules(arguments) == modules


def test_help_does_without_numpy():
    program = "import sys; from recsys_cli.cli.common import run; run(['--help']); print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "recommend" in out and out.strip().endswith("False")


def test_a_wrong_key_of_a_section_that_answers_do_not_read_is_still_refused(tmp_path):
    (tmp_path / "recsys.yaml").write_text("ranking: {chose: heavy}\n")
    command = [sys.executable, "-m", "recsys_cli", "recommend", "--user", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3 and "choose" in done.stderr
