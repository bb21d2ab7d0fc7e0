"""The deployment files: what can be checked of them without the machines that they are for."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from recsys_cli.cli.common import COMMANDS
from recsys_cli.docs import FOLDER as DOCS

FOLDER = DOCS / "deployment"
UNITS = ("recsys.service", "recsys-retrain.service", "recsys-retrain.timer")
HERE = {"serve"} & set(COMMANDS)
"""Commands of a part that may not be installed."""


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str
    parser.read_string((FOLDER / name).read_text())
    return parser


@pytest.fixture(scope="module")
def program():
    import importlib

    import typer

    from recsys_cli.cli import common

    for module in COMMANDS:
        importlib.import_module(f"recsys_cli.cli.{module}")
    return typer.main.get_command(common.app)


def parses(program, arguments: list[str]) -> None:
    """Raises what the program would refuse a command line with."""
    name, *rest = arguments
    if name == "serve" and name not in HERE:
        return
    found = program.commands[name]
    while hasattr(found, "commands"):
        found, rest = found.commands[rest[0]], rest[1:]
    found.make_context(name, list(rest))


@pytest.mark.parametrize("name", UNITS)
def test_units_are_sound(name, tmp_path, program):
    found = unit(name)
    for key in ("ExecStart", "ExecStartPost"):
        line = found.get("Service", key, fallback=None) if found.has_section("Service") else None
        if line is not None:
            binary, *arguments = shlex.split(line)
            assert Path(binary).name == "recsys"
            parses(program, arguments)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for other in UNITS:
        text = (FOLDER / other).read_text().replace("/srv/recsys/venv/bin/recsys", "/bin/true")
        (tmp_path / other).write_text(text.replace("User=recsys\nGroup=recsys\n", ""))
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if name in line], done.stderr


def test_the_server_may_write_where_it_writes_and_is_stopped_gently():
    service = unit("recsys.service")["Service"]
    assert service["ReadWritePaths"] == "/srv/recsys/artifacts" and service["ProtectSystem"] == "strict"
    assert service["KillSignal"] == "SIGTERM" and int(service["TimeoutStopSec"]) >= 15
    retrain = unit("recsys-retrain.service")["Service"]
    assert "/srv/recsys/data" in retrain["ReadWritePaths"].split() and retrain["Type"] == "oneshot"
    assert int(retrain["Nice"]) > 0 and retrain["TimeoutStartSec"] != "infinity"


def test_the_layout_of_compose_fits_together(program):
    tree = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services, volumes = tree["services"], set(tree["volumes"])
    servers = [name for name in services if name.startswith("server-")]
    assert len(servers) == 2
    logs = []
    for name, service in services.items():
        for needed in service.get("depends_on", ()):
            assert "healthcheck" in services[needed], (name, needed)
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in volumes or (FOLDER / source).is_file(), mount
        if name in servers or name == "retrain":
            parses(program, [str(a) for a in service["command"]])
        logs += [m for m in service.get("volumes", ()) if name in servers and m.endswith("/artifacts/events")]
    assert len({log.split(":")[0] for log in logs}) == len(servers), "each server has a log of its own"
    balanced = re.findall(r"^\s*server (\S+):(\d+)", (FOLDER / "nginx.conf").read_text(), re.M)
    assert sorted(balanced) == [(name, "8080") for name in sorted(servers)]


def test_the_container_runs_as_nobody_special_and_gets_the_signals():
    lines = (FOLDER / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    kinds = [kind for kind, _ in steps]
    assert kinds[0] == "FROM" and ":latest" not in steps[0][1] and ":" in steps[0][1]
    assert set(kinds) <= {"FROM", "RUN", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert kinds.index("USER") < kinds.index("ENTRYPOINT") and dict(steps)["USER"] != "root"
    assert dict(steps)["ENTRYPOINT"] == '["recsys"]'
    extras = set(re.search(r"recsys-cli\[([\w,]+)\]", " ".join(lines))[1].split(","))
    project = (DOCS.parents[1] / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.M) for extra in extras)


def test_the_settings_of_the_servers_are_settings():
    from recsys_cli.config import validate
    from recsys_cli.settings import Settings

    tree = yaml.safe_load((FOLDER / "recsys.yaml").read_text())
    served = validate(Settings, tree).serving
    assert served.host == "0.0.0.0" and [key.name for key in served.keys] == ["site"]
    assert served.redis.url == tree["serving"]["redis"]["url"]


def test_every_file_is_named_by_the_page_and_travels_with_the_package():
    page = (DOCS / "live.md").read_text()
    for file in FOLDER.iterdir():
        assert f"deployment/{file.name}" in page, file.name
    assert '"deployment/*"' in (DOCS.parents[1] / "pyproject.toml").read_text()
