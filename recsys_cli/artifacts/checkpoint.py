"""Checkpoints: models as they were trained, in `.pt` files that hold tensors and plain values only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from recsys_cli.errors import ArtifactError
from recsys_cli.files import atomic_file

CHECKPOINT_VERSION = 1


def save_checkpoint(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists and dictionaries of them) whole or not at all.

    Raises RecsysError where the disk refuses; an earlier checkpoint at `path` is then as it was.
    """
    import torch

    with atomic_file(path) as temporary, open(temporary, "wb") as stream:
        # into a stream: an archive that torch opens by its name holds that name, which is another each time
        torch.save({"checkpoint_version": CHECKPOINT_VERSION, "content": content}, stream)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU; nothing but tensors and plain values is unpickled.

    Raises ArtifactError where the file is missing, is no checkpoint or is one of another version.
    """
    import torch

    path = Path(path)
    hint = "train again, or name another checkpoint"
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"no checkpoint {path}", hint) from None
    except Exception as error:  # torch raises whatever its readers do: pickle, zip, runtime and end-of-file errors
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ArtifactError(f"{path} is not a checkpoint: {reason}", hint) from None
    if not isinstance(whole, dict) or "checkpoint_version" not in whole or not isinstance(whole.get("content"), dict):
        raise ArtifactError(f"{path} is not a checkpoint of this program", hint)
    if whole["checkpoint_version"] != CHECKPOINT_VERSION:
        raise ArtifactError(
            f"{path} is a checkpoint of version {whole['checkpoint_version']}, this program reads {CHECKPOINT_VERSION}",
            hint,
        )
    content: dict[str, Any] = whole["content"]
    return content
