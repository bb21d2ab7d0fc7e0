"""Which root of the configuration a command reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys_cli.config import Section


def root_for(answers: bool, file: Path | None, layers: list[tuple[str, dict]]) -> type[Section]:
    """`Settings`; for commands that only answer, `AnswerSettings` where file and layers name no other section.

    To make every section ready takes longer than a slate with all that it needs. What is named is always checked.
    """
    if answers:
        from recsys_cli.config import read_yaml
        from recsys_cli.pipeline.answer_settings import AnswerSettings

        trees = [read_yaml(file) if file is not None else {}, *(layer for _, layer in layers)]
        if all(tree.keys() <= AnswerSettings.model_fields.keys() for tree in trees):
            return AnswerSettings
    from recsys_cli.settings import Settings

    return Settings
