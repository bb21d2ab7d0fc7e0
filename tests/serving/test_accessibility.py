"""Every page of the dashboard by the rules of axe-core, in light and dark, on a screen and on a phone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("", "requests", "users", "users/1001", "items", "items/i1", "sources", "experiments", "runs", "alerts",
         "configuration", "learning", "learning/confirm", "drift")
RUN = """
const done = arguments[0];
axe.run(document).then(found => done(found.violations.map(
  v => `${v.id} (${v.impact}): ${v.nodes[0].html.slice(0, 120)}`)));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core: named by AXE_CORE, or below node_modules."""
    places = [os.environ.get("AXE_CORE", ""), ROOT / "node_modules" / "axe-core" / "axe.min.js"]
    found = next((Path(p) for p in places if p and Path(p).is_file()), None)
    if found is None:
        pytest.skip("no axe-core: `npm install --no-save axe-core`, or name its axe.min.js by AXE_CORE")
    return found.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_used_by_everybody(server, chromium, axe, scheme):
    server.get("/v1/recommend/1001?n=5")
    end = time.monotonic() + 120
    while b"being counted" in server.get("/dashboard/drift").body and time.monotonic() < end:
        time.sleep(1)
    requests = server.get("/dashboard/requests").body.decode()
    one = re.search(r'/dashboard/(requests/[^"?/]+)"', requests)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    chromium.set_script_timeout(60)
    wrong = []
    for width in (1200, 360):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for page in (*PAGES, one[1]):
            chromium.get(f"{server.url}/dashboard/{page}")
            chromium.execute_script(axe)
            wrong += [f"{page} at {width}: {told}" for told in chromium.execute_async_script(RUN)]
            if chromium.execute_script("return document.documentElement.scrollWidth") > width:
                wrong.append(f"{page} at {width}: wider than the screen")
    assert not wrong, "\n".join(wrong)
