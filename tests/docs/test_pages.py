"""The documents hold together: links resolve, and what they show is what the program accepts."""

import ast
import importlib
import re
import subprocess
import textwrap

import pytest
import yaml
from pages import ROOT, anchors, fences, links, recsys_calls, texts

from recsys_cli import docs
from recsys_cli.config import merge, read_yaml, validate

PAGES = texts()


def test_every_file_is_a_page_and_every_page_a_file():
    assert {path.stem for path in docs.FOLDER.glob("*.md")} == set(docs.PAGES)
    assert len(set(docs.PAGES)) == len(docs.PAGES)
    for name in docs.PAGES:
        assert docs.read(name).startswith("# ") and len(docs.title(name)) < 60, name


def test_the_site_has_the_chapters_of_the_program():
    site = read_yaml(ROOT / ".ci" / "mkdocs.yml")
    chapters = {c: tuple(p.removesuffix(".md") for p in pages) for entry in site["nav"] for c, pages in entry.items()}
    assert chapters == docs.CHAPTERS


def test_the_readme_is_short_and_links_every_page_but_the_index():
    readme = PAGES["README"]
    assert len(readme.encode()) <= 8192
    assert {f"recsys_cli/docs/{name}.md" for name in docs.PAGES if name != "index"} <= set(links(readme))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_resolves(page):
    folder = ROOT if page == "README" else docs.FOLDER
    for target in links(PAGES[page]):
        assert "://" not in target, f"{page} points at the network: {target}"
        path, _, anchor = target.partition("#")
        file = folder / path if path else docs.path_of(page)
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{page}: {target}"


@pytest.fixture(scope="module")
def program():
    import typer

    from recsys_cli.cli import common

    for module in common.COMMANDS:
        importlib.import_module(f"recsys_cli.cli.{module}")
    return typer.main.get_command(common.app)


def parse(program, arguments):
    """Parse a command line without running it; raises what the program would refuse it with."""
    name, *rest = arguments
    found = program.commands[name]
    while hasattr(found, "commands") and rest:
        rest = found.with_command(rest) if hasattr(found, "with_command") else rest
        found, rest = found.commands[rest[0]], rest[1:]
    return found.make_context(name, rest)


def test_every_shell_command_parses(program):
    calls = 0
    for fence in fences("sh"):
        checked = subprocess.run(["bash", "-n"], input=fence.text, text=True, capture_output=True)
        assert checked.returncode == 0, (fence.page, checked.stderr)
        for line in fence.lines:
            for arguments in recsys_calls(line):
                try:
                    parse(program, arguments)
                except Exception as error:
                    raise AssertionError(f"{fence.page}: {line}: {error!r}") from error
                calls += 1
    assert calls > 60
    with pytest.raises(Exception, match="No such option"):
        parse(program, ["recommend", "--usr", "1"])


def test_every_make_target_shown_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {line.split()[1] for fence in fences("sh") for line in fence.lines if line.startswith("make ")}
    assert {"demo", "test", "docs"} <= shown <= targets


def test_every_python_example_is_python():
    examples = list(fences("python"))
    assert len(examples) > 5
    for fence in examples:
        try:
            ast.parse(textwrap.dedent(fence.text))
        except SyntaxError as error:
            raise AssertionError(f"{fence.page}: {error}: {fence.text}") from error


def test_every_yaml_example_is_accepted(tmp_path):
    """Settings, search spaces, mappings and experiments in the pages are checked as files of those kinds are."""
    from recsys_cli.data.importer.mapping import Mapping
    from recsys_cli.experiments.config import ExperimentConfig
    from recsys_cli.off_policy.config import OffPolicyConfig
    from recsys_cli.settings import Settings
    from recsys_cli.simulation.config import ScenarioConfig
    from recsys_cli.tuning.space import Space

    defaults, kinds = Settings().model_dump(mode="json"), []
    for fence in fences("yaml"):
        content = yaml.safe_load(fence.text)
        if "boost_new" in fence.text:  # of the package that its page makes; `test_stage_plugin` installs and uses it
            continue
        if "impressions" in content:
            assert validate(Mapping, content)
            kinds.append("mapping")
        elif "policies" in content:
            assert validate(ScenarioConfig, content)
            kinds.append("scenario")
        elif "policy" in content:
            assert validate(OffPolicyConfig, content)
            kinds.append("policy")
        elif {"treatment", "variants"} & set(content):
            assert validate(ExperimentConfig, content)
            kinds.append("experiment")
        elif "search" in content:
            (tmp_path / "space.yaml").write_text(fence.text)
            assert Space.read(tmp_path / "space.yaml", Settings())
            kinds.append("space")
        else:
            assert validate(Settings, merge(defaults, content)), fence.page
            kinds.append("settings")
    assert set(kinds) == {"mapping", "policy", "scenario", "experiment", "settings", "space"}


def test_drawings_fit_a_terminal():
    for fence in fences("text"):
        assert max(map(len, fence.lines)) <= 96, (fence.page, max(fence.lines, key=len))


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("add-a-")])
def test_a_worked_example_is_short(page):
    for fence in fences("python"):
        if fence.page == page:
            assert len(fence.lines) < 40, page


def test_the_source_of_the_page_is_that_of_the_script():
    (first, *_) = [f.text for f in fences("python") if f.page == "add-a-source"]
    written = first[first.index("class LoyalConfig"):].strip()
    assert written in (docs.FOLDER / "examples" / "custom_source.py").read_text()


def test_pictures_are_there_and_ask_nothing_of_the_network():
    drawn = (docs.FOLDER / "images" / "slate.svg").read_text()
    assert "recsys" in drawn and "url(http" not in drawn and "<image" not in drawn
    assert (docs.FOLDER / "images" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_sources_that_are_on_by_default_are_those_of_the_page():
    from recsys_cli.retrieval.registry import default_retrieval

    always, auto = re.search(
        r"^- always fits (.+);\n- fits (.+) where they can pay", docs.read("sources"), re.MULTILINE
    ).groups()
    configured = default_retrieval()
    assert set(re.findall(r"`(\w+)`", always)) == {n for n, c in configured.items() if c.enabled is True}
    assert set(re.findall(r"`(\w+)`", auto)) == {n for n, c in configured.items() if c.enabled == "auto"}


def test_every_kind_of_source_and_of_heavy_ranker_is_told_of():
    from recsys_cli.ranking.registry import RANKERS
    from recsys_cli.retrieval.registry import SOURCES

    for kind in SOURCES:
        assert f"`{kind}`" in docs.read("sources"), kind
    for kind in RANKERS:
        assert f"| `{kind}` |" in docs.read("ranking"), kind


def test_every_shipped_mapping_and_experiment_is_told_of():
    from recsys_cli.shipped import configurations

    for folder, page in (("import", "own-data"), ("experiments", "experiments"), ("benchmarks", "benchmarks")):
        for file in (configurations() / folder).glob("*.yaml"):
            assert file.name in docs.read(page), file.name
