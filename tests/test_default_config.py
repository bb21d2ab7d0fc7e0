"""`configs/default.yaml` says what the program does without it."""

from pathlib import Path

from recsys_cli.config import commented_yaml, read_yaml
from recsys_cli.settings import Settings

DEFAULT = Path(__file__).parent.parent / "configs" / "default.yaml"


def test_the_file_holds_every_setting_at_its_default():
    assert Settings.model_validate(read_yaml(DEFAULT)) == Settings()
    text = commented_yaml(Settings())
    assert DEFAULT.read_text() == text, "write it again: recsys config template > configs/default.yaml"


def test_every_shipped_configuration_is_valid():
    from recsys_cli.config import resolve

    paths = [*DEFAULT.parent.glob("*.yaml"), *DEFAULT.parent.glob("presets/*.yaml")]
    assert len(paths) >= 3
    for path in paths:
        assert isinstance(resolve(Settings, file=path).config, Settings)
