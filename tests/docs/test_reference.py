"""The pages that the program writes about itself."""

import re

import pytest

from recsys_cli import docs
from recsys_cli.cli import reference


@pytest.fixture(scope="module")
def written():
    return reference.pages()


@pytest.mark.parametrize("page", ["commands", "settings", "mapping"])
def test_a_written_page_is_what_the_program_writes_now(written, page):
    assert docs.read(page) == written[page], "write it again: make reference"


def test_every_command_and_every_option_of_it_stands_in_the_reference():
    text = docs.read("commands")
    for option in ("--user ", "--users-file ", "--history ", "--from ", "--preview", "--log ", "--no-truth"):
        assert f"`{option}" in text, option
    assert re.search(r"`recsys import-data \[MAPPING\|FILE\] \[OPTIONS\]`", text)
    assert "| `--config PATH`, `-c` | `RECSYS_CONFIG` |" in text
    assert len(re.findall(r"^## ", text, re.M)) == len(list(reference.commands())) + 2


def test_the_exit_codes_are_those_of_the_errors():
    from recsys_cli import errors

    listed = dict(re.findall(r"^\| (\d+) \| (.+) \|$", docs.read("commands"), re.M))
    for error in (errors.UsageError, errors.ConfigError, errors.DataError, errors.ArtifactError, errors.UnknownIdError):
        assert str(error.exit_code) in listed
    assert listed["4"] == "data refused" and listed["130"] == "interrupted"


def test_the_reference_names_every_setting_and_every_kind():
    from recsys_cli.retrieval.registry import SOURCES
    from recsys_cli.settings import Settings

    text = docs.read("settings")
    for kind, source in SOURCES.items():
        section = text.split(f"### retrieval {kind}\n", 1)
        assert len(section) == 2, kind
        for key in source.config_type.model_fields:
            assert key == "kind" or f"| `{key}` |" in text, (kind, key)
    for key in reference_keys(Settings):
        assert f"| `{key}` |" in text, key


def reference_keys(model, path=""):
    """Dotted keys of every section that is no choice between kinds."""
    for name, field in model.model_fields.items():
        key = f"{path}.{name}" if path else name
        yield key
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield from reference_keys(field.annotation, key)


def test_types_bounds_and_defaults_are_told_in_words():
    text = docs.read("settings")
    assert "| `world.author_share` | number above 0, at most 1 | `0.3` |" in text
    assert "| `seed` | integer | `42` | Seed of everything random. |" in text
    assert "Literal" not in text and "NoneType" not in text and "<class" not in text and "PydanticUndefined" not in text
