"""Configuration: layers, refusals with the place and the nearest key."""

import os
import subprocess
import sys

import pytest

from recsys_cli.config import _as_written, leaves, merge, parse_override, resolve
from recsys_cli.errors import ConfigError
from recsys_cli.settings import Settings


def recsys(*arguments, cwd, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")} | environment
    return subprocess.run(
        [sys.executable, "-m", "recsys_cli", *arguments], capture_output=True, text=True, cwd=cwd, env=env
    )


def refused(tmp_path, text, **more):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(Settings, file=path, **more)
    return str(caught.value)


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 1\nthreads: 1\npaths: {data: from-file}\n")
    done = recsys(
        "config",
        "show",
        "-c",
        "c.yaml",
        "--set",
        "seed=3",
        "--format",
        "csv",
        cwd=tmp_path,
        RECSYS_SEED="2",
        RECSYS_THREADS="2",
    )
    rows = dict(line.split(",", 1) for line in done.stdout.splitlines())
    assert rows["seed"] == "3,flag"
    assert rows["threads"] == "2,environment"
    assert rows["paths.data"] == "from-file,file"
    assert rows["paths.artifacts"] == "artifacts,default"


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known(tmp_path):
    message = refused(tmp_path, "seed: 1\npipeline:\n  slate_size: 5\n  diversty:\n    enabled: false\n")
    assert "line 4" in message and "pipeline.diversty" in message and "'diversity'" in message


def test_a_key_deep_in_a_dictionary_of_models_is_matched_to_its_kind(tmp_path):
    message = refused(tmp_path, "retrieval:\n  als:\n    kind: als\n    epoch: 8\n")
    assert "line 4" in message and "epoch" in message and "'epochs'" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: many\n", ["line 1", "seed", "integer"]),
        ("pipeline: {exploration: {epsilon: 2}}\n", ["pipeline.exploration.epsilon", "less than or equal to 1"]),
        ("seed: [1\n", ["line 2"]),
        ("- a\n- b\n", ["mapping"]),
        ("seed: 1\nseed: 2\n", ["line 2", "stands twice"]),
        ("windows: {test_share: 0.5, history_share: 0.6}\n", ["windows", "something to train on"]),
        ("retrieval: {als: {kind: alss}}\n", ["alss", "'als'"]),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path, text, words):
    message = refused(tmp_path, text)
    for word in words:
        assert word in message


def test_a_missing_file_is_a_configuration_error(tmp_path):
    done = recsys("config", "validate", "-c", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert "nowhere.yaml" in done.stderr and "Traceback" not in done.stderr


def test_overrides_read_values_as_yaml_does():
    assert parse_override("a.b=[1, x]") == (["a", "b"], [1, "x"])
    assert parse_override("a=null") == (["a"], None)
    for bad in ("a.b", "=1", "a..b=1"):
        with pytest.raises(ConfigError, match=r"a\.b=value"):
            parse_override(bad)


def test_merging_keeps_neighbours_and_replaces_another_kind():
    below = {"als": {"kind": "als", "dim": 64, "alpha": 1.0}, "x": {"kind": "random", "enabled": True}}
    above = {"als": {"dim": 8}, "x": {"kind": "als"}}
    assert merge(below, above) == {"als": {"kind": "als", "dim": 8, "alpha": 1.0}, "x": {"kind": "als"}}
    assert below["als"]["dim"] == 64


def test_every_value_has_an_origin():
    resolved = resolve(Settings, layers=[("flag", {"seed": 5})])
    assert set(resolved.origins) == set(leaves(resolved.config.model_dump(mode="json")))
    assert resolved.origins["seed"] == "flag"
    assert set(resolved.origins.values()) == {"flag", "default"}


def test_the_schema_describes_every_field_of_the_root(tmp_path):
    import json

    done = recsys("config", "schema", cwd=tmp_path)
    schema = json.loads(done.stdout)
    assert schema["properties"]["seed"]["description"] == "Seed of everything random."
    undescribed = [
        f"{name}.{field}"
        for name, definition in schema["$defs"].items()
        for field, content in definition.get("properties", {}).items()
        if "description" not in content and "$ref" not in content and field != "kind"
    ]
    assert undescribed == []


def test_a_refused_setting_is_named_as_it_stands_in_the_file_without_the_kind_of_its_union(tmp_path):
    own = "ranking:\n  heavy:\n    kind: dcn_v2\n"
    error = refused(tmp_path, own + "    teacher:\n      round: 80\n")
    assert "line 5: unknown key 'ranking.heavy.teacher.round'" in error
    assert "did you mean 'rounds'?" in error
    error = refused(tmp_path, own + "    loss: focal\n    teacher: {}\n")
    assert "ranking.heavy: a teacher's probabilities need loss: bce" in error


def test_a_place_in_a_list_is_named_and_the_alternatives_of_a_union_are_not():
    tree = {"a": [{"kind": "x", "b": [1, 2]}], "c": [3], "d": 4}
    assert _as_written(tree, ("a", 0, "x", "b", 1)) == ("a", 0, "b", 1)
    assert _as_written(tree, ("a", 0, "x")) == ("a", 0)
    assert _as_written(tree, ("a", 0, "x", "missing")) == ("a", 0, "missing")
    assert _as_written(tree, ("c", "list[str]", 0)) == ("c", 0)
    assert _as_written(tree, ("d", 0, "e")) == ("d", 0, "e")


def test_what_was_set_by_hand_is_reported_there_and_what_the_file_says_in_the_file(tmp_path):
    file = "pipeline:\n  heavy: {keep: 5}\n"
    for origin, words in (("flag", "--set: "), ("environment", "RECSYS_SET: ")):
        error = refused(tmp_path, file, layers=[(origin, {"pipeline": {"heavy": {"kep": 3}}})])
        assert error.startswith(f"{words}unknown key 'pipeline.heavy.kep'") and "c.yaml" not in error
    error = refused(tmp_path, file, layers=[("flag", {"pipeline": {"heavy": {"keep": -1}}})])
    assert error.startswith("--set: pipeline.heavy.keep")
    error = refused(tmp_path, "pipeline:\n  heavy: {kep: 5}\n", layers=[("flag", {"pipeline": {"light": {"keep": 3}}})])
    assert "c.yaml line 2: unknown key 'pipeline.heavy.kep'" in error
    error = refused(tmp_path, "windows: {test_share: 0.5}\n", layers=[("flag", {"windows": {"history_share": 0.6}})])
    assert error.startswith("--set: windows: ")
