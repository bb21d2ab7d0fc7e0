"""The two pictures of the README, made from the run in use: `make pictures`.

slate.svg is what `recsys recommend --user 1` prints. report.png is the head of the report that `recsys evaluate`
kept for that run, as Chromium draws it; without Chromium that picture stays as it is, and the script says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from recsys_cli import RecommendationEngine
from recsys_cli.artifacts.runs import RunStore
from recsys_cli.cli.slate_tables import render_slate
from recsys_cli.docs import FOLDER

IMAGES = FOLDER / "images"
ARTIFACTS = "artifacts"


def draw_slate() -> None:
    """A terminal's picture as SVG."""
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=100, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print("[green]$[/] recsys recommend --user 1", highlight=False)
        render_slate(console, RecommendationEngine.load(ARTIFACTS).recommend(1), explain=False)
        drawn = console.export_svg(title="recsys")
    # rich names fonts of a server on the network; a page that opens from disk takes the reader's own
    (IMAGES / "slate.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))


def draw_report() -> bool:
    """The first screen of the report; False where no Chromium is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return False
    report = Path(ARTIFACTS, "reports", RunStore(ARTIFACTS).open().id, "evaluation.html").resolve()
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
             "--window-size=1100,1170", f"--screenshot={IMAGES / 'report.png'}", report.as_uri()],
            check=True,
            capture_output=True,
        )  # fmt: skip
    return True


if __name__ == "__main__":
    draw_slate()
    if not draw_report():
        print("no Chromium here: report.png stays as it is", file=sys.stderr)
