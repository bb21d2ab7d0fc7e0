"""How a wheel is built: `configs/` stands at the top of the checkout, and a wheel carries it within the package.

Named in pyproject.toml (`tool.setuptools.cmdclass`); imported by setuptools alone, before any dependency is there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

TOP = Path(__file__).resolve().parent.parent


class BuildWithConfigurations(build_py):
    """Build the package, and put a copy of the YAML files of `configs/` into it."""

    def run(self) -> None:
        super().run()
        for source, target in self._copies():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_source_files(self) -> list[str]:
        """What a source distribution holds."""
        return [*super().get_source_files(), *(str(source.relative_to(TOP)) for source in _configurations())]

    def get_outputs(self, include_bytecode: int = 1) -> list[str]:
        return [*super().get_outputs(include_bytecode), *(str(target) for _, target in self._copies())]

    def _copies(self) -> list[tuple[Path, Path]]:
        """(file of the checkout, its place in what is built); none where an editable install reads the checkout."""
        if self.editable_mode:
            return []
        built = Path(self.build_lib) / "recsys_cli"
        return [(source, built / source.relative_to(TOP)) for source in _configurations()]


def _configurations() -> list[Path]:
    return sorted((TOP / "configs").rglob("*.yaml"))
