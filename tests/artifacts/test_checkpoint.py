"""Checkpoints come back as they were, and nothing else passes for one."""

import pickle

import pytest
import torch

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError


def test_tensors_and_plain_values_come_back(tmp_path):
    content = {"weights": {"a": torch.arange(6.0).reshape(2, 3)}, "names": ["x", "y"], "epoch": 3, "best": None}
    save_checkpoint(tmp_path / "model.pt", content)
    back = load_checkpoint(tmp_path / "model.pt")
    assert torch.equal(back.pop("weights")["a"], content.pop("weights")["a"])
    assert back == content
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


class Intruder:
    def __reduce__(self):
        return (print, ("run on loading",))


@pytest.mark.parametrize(
    "content",
    [b"", b"no checkpoint", b"PK\x03\x04 truncated", pickle.dumps({"content": Intruder()}, protocol=2)],
    ids=["empty", "garbage", "truncated zip", "code in a pickle"],
)
def test_a_file_that_is_no_checkpoint_is_refused_without_running_it(tmp_path, capsys, content):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"bad\.pt is not a checkpoint"):
        load_checkpoint(path)
    assert "run on loading" not in capsys.readouterr().out


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ArtifactError, match="not a checkpoint"):
        load_checkpoint(path)


def test_a_missing_file_another_version_and_foreign_weights_are_named(tmp_path):
    with pytest.raises(ArtifactError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save({"checkpoint_version": 99, "content": {}}, tmp_path / "new.pt")
    with pytest.raises(ArtifactError, match="version 99"):
        load_checkpoint(tmp_path / "new.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    with pytest.raises(ArtifactError, match="of this program"):
        load_checkpoint(tmp_path / "foreign.pt")
