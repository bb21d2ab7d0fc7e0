"""A hyper-parameter has one name in all sources, and the names it once had are refused by telling it."""

import pytest

from recsys_cli.config import resolve
from recsys_cli.errors import ConfigError
from recsys_cli.retrieval.ratings import RATING_MODELS
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.settings import Settings

CONFIGS = {kind: cls.config_type for kind, cls in SOURCES.items()}
EVERY = {**CONFIGS, **{kind: model.config_type for kind, model in RATING_MODELS.items()}}
RETIRED = {
    "dim": {"factors", "width", "size", "components", "id_dim", "embedding_dim"},
    "epochs": {"iterations", "rounds", "sweeps", "passes"},
    "l2": {"regularisation", "regularization", "ridge", "penalty", "reg"},
    "learning_rate": {"rate", "lr", "step_size"},
    "batch_size": {"batch"},
    "neighbours": {"k", "neighbors"},
    "uniform_negatives": {"negatives"},
    "*_exponent": {"baseline_power", "degree_power", "norm_power", "popularity", "regularisation_exponent"},
}
RENAMED = [(kind, old, new) for kind, config in CONFIGS.items() for old, new in config.renamed.items()]


@pytest.mark.parametrize("kind", EVERY)
def test_no_source_calls_a_hyper_parameter_by_another_name(kind):
    config = EVERY[kind]
    assert not set(config.model_fields) & set().union(*RETIRED.values())
    assert set(config.renamed.values()) <= set(config.model_fields)


@pytest.mark.parametrize(("kind", "old", "new"), RENAMED)
def test_an_old_name_is_refused_by_telling_the_new_one(tmp_path, kind, old, new):
    file = tmp_path / "recsys.yaml"
    file.write_text(f"retrieval:\n  {kind}:\n    kind: {kind}\n    {old}: 8\n")
    with pytest.raises(ConfigError) as refused:
        resolve(Settings, file=file)
    assert "line 4" in str(refused.value) and f"is now named {new!r}" in str(refused.value)


