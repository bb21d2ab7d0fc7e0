"""Files that come with the program: its configurations, found from anywhere.

In a checkout they stand in `configs/` beside the package; a wheel carries a copy within the package (`packaging.py`).
"""

from __future__ import annotations

from pathlib import Path

from recsys_cli.errors import UsageError, did_you_mean

FOLDER = "configs"
PRESETS = "presets"


def configurations() -> Path:
    """Folder of the shipped configurations: the installed copy, else that of the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / FOLDER
    return installed if installed.is_dir() else package.parent / FOLDER


def find(path: Path) -> Path:
    """The file itself where it exists; else the shipped one, where `path` names one as `configs/…`.

    A path that is neither is returned as it was given, for whoever reads it to refuse it by the name that was written.
    """
    if path.exists() or path.is_absolute() or path.parts[:1] != (FOLDER,) or ".." in path.parts:
        return path
    shipped = configurations().joinpath(*path.parts[1:])
    return shipped if shipped.is_file() else path


def presets() -> dict[str, Path]:
    """Name → file of every shipped preset, in the order of their names."""
    return {path.stem: path for path in sorted((configurations() / PRESETS).glob("*.yaml"))}


def preset(name: str) -> dict:
    """The settings of a preset, to lay over those of a file; raises UsageError for a name that is none."""
    from recsys_cli.yaml_reader import read_yaml

    known = presets()
    if name not in known:
        raise UsageError(f"there is no preset {name!r}", did_you_mean(name, known, f"known are: {', '.join(known)}"))
    return read_yaml(known[name])
