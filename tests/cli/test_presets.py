"""Presets: listed, shown, laid over a file, and trained with from end to end."""

import json
import re

import pytest

from recsys_cli.cli.common import run as recsys
from recsys_cli.config import merge, read_yaml, validate
from recsys_cli.docs import read
from recsys_cli.pipeline.added import KINDS
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.order import FUSION, Order
from recsys_cli.settings import Settings
from recsys_cli.shipped import presets
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle

NAMES = ["amazon", "for-you", "netflix", "small", "tiktok", "x-2026", "youtube"]


def answer(capsys, *arguments):
    code = recsys(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_all_presets_are_listed_with_what_they_are_for(capsys):
    code, out, _ = answer(capsys, "presets", "--format", "json")
    rows = json.loads(out)
    assert code == 0 and [row["preset"] for row in rows] == NAMES == list(presets())
    assert all(10 < len(row["for"]) < 120 for row in rows)
    _, out, _ = answer(capsys, "presets")
    assert all(name in out for name in NAMES) and max(map(len, out.splitlines())) <= 100


def test_a_preset_is_shown_as_the_file_that_it_is(capsys):
    code, out, _ = answer(capsys, "presets", "x-2026")
    assert code == 0 and out.strip() == presets()["x-2026"].read_text().strip()


@pytest.mark.parametrize("command", [["presets", "tiktk"], ["config", "show", "--preset", "tiktk"]])
def test_an_unknown_preset_is_told_the_nearest(command, capsys):
    code, _, err = answer(capsys, *command)
    assert code == 2 and "there is no preset 'tiktk'" in err and "did you mean 'tiktok'?" in err


def test_a_preset_lies_over_the_file_and_below_flags(capsys, tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text("pipeline:\n  slate_size: 7\n  utility:\n    dwell: 9\n")
    asked = ["config", "show", "-c", str(file), "--set", "pipeline.utility.weights.like=3", "--format", "json"]

    def shown(*more):
        code, out, _ = answer(capsys, *asked, *more)
        assert code == 0
        pipeline = json.loads(out)["config"]["pipeline"]
        return [pipeline["slate_size"], pipeline["utility"]["dwell"], pipeline["utility"]["weights"]["like"]]

    assert shown() == [7, 9, 3] and shown("--preset", "x-2026") == [7, 0.004, 3]
    monkeypatch.setenv("RECSYS_PRESET", "youtube")
    assert shown() == [7, 1, 3]


def test_x_2026_has_the_published_weights():
    config = validate(Settings, merge(Settings().model_dump(mode="json"), read_yaml(presets()["x-2026"])))
    weights = {a: w for a, w in config.pipeline.utility.weights.items() if w}
    assert weights == {
        "like": 0.5, "reply": 5, "repost": 1, "quote": 5, "share": 2, "follow": 4, "click": 0.4, "favorite": 0.5,
        "hide": 43.2, "block": 31.2, "mute": 58.8, "report": 234,
    }
    assert config.pipeline.utility.dwell == 0.004
    stages = config.pipeline.stages
    assert (stages["author_decay"].decay, stages["author_decay"].floor) == (0.5, 0.25)
    assert stages["out_of_network"].factor == 0.75 and 1 - stages["dpp"].diversity == 0.65


def test_every_kind_and_every_preset_is_on_its_page():
    page = read("slate-stages")
    assert all(re.search(rf"^\| `{kind}`", page, re.MULTILINE) for kind in KINDS)
    assert all(f"| `{name}` |" in page for name in NAMES)


@pytest.fixture(scope="module")
def small_world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    sizes = {"users": 120, "items": 800, "days": 10, "impressions_per_user": 120, "truth": "false"}
    more = [part for name, size in sizes.items() for part in ("--set", f"world.{name}={size}")]
    assert recsys(["generate-data", "--data-dir", str(folder / "world"), "--quiet", *more]) == 0
    return folder


def test_a_rule_that_this_data_cannot_decide_stops_training_before_anything_is_fitted(small_world, capsys):
    where = ["--data-dir", str(small_world / "world"), "--artifacts-dir", str(small_world / "none"), "--quiet"]
    rule = ["--set", "pipeline.rules.sale.if=item.promotoin == 1", "--set", "pipeline.rules.sale.then=filter"]
    code, _, err = answer(capsys, "train", *where, *rule)
    assert code == 3 and err.startswith("recsys: pipeline.rules.sale.if: items have no attribute 'promotoin'")
    assert not list((small_world / "none").glob("**/checkpoints"))


@pytest.mark.parametrize(("name", "told"), [
    ("amazon", "stage unavailable steps aside: it needs items with"),
    ("netflix", "stage language steps aside: it needs"),
    ("x-2026", "stage muted_keywords steps aside: it needs"),
])  # fmt: skip
def test_a_preset_with_data_that_it_cannot_use_says_which_columns_are_missing(name, told):
    settings = read_yaml(presets()[name])["pipeline"]
    names = dict.fromkeys(PLANTED_SOURCES, 0.5)
    config = PipelineConfig.model_validate({
        "stages": settings["stages"], "sourcing": {"shares": names, "fallback": ["popularity"]},
    })  # fmt: skip
    notes = build_pipeline(config, planted_bundle(), Order(FUSION, FUSION)).notes
    mine = next(note for note in notes if note.startswith(told))
    assert len(mine) > len(told) + 3


QUICK = [
    "ranking.heavy.epochs=1", "retrieval.two_tower.epochs=1", "ranking.relevance.enabled=false",
    "ranking.baseline.enabled=false", "evaluation.resamples=100",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_runs_whole(name, small_world, capsys):
    """Trained, asked and measured on a small generated world."""
    where = ["--preset", name, "--data-dir", str(small_world / "world"), "--artifacts-dir", str(small_world / name)]
    flags = [*where, "--quiet", *(part for value in QUICK for part in ("--set", value))]
    code, _, err = answer(capsys, "train", *flags)
    assert code == 0, err
    code, out, err = answer(capsys, "recommend", "--user", "1", "--format", "json", *flags)
    assert code == 0, err
    found = json.loads(out)
    wanted = set(read_yaml(presets()[name])["pipeline"].get("stages", ()))
    stages = {row["stage"] for row in found["funnel"]}
    aside = {stage for stage in wanted if f"stage {stage} steps aside" in " ".join(found["notes"])}
    assert len(found["items"]) == 10 and wanted - stages - aside <= {"served", "adventure"}
    code, out, err = answer(capsys, "evaluate", "--format", "json", *flags)
    assert code == 0 and json.loads(out)["systems"][0]["metrics"]["ndcg@10"]["value"] > 0, err
