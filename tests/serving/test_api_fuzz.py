"""Every path of the API, asked with whatever its own document allows and with what it does not: no answer is 500."""

import subprocess
import sys

import pytest
from server_process import Server

pytestmark = pytest.mark.slow


def test_no_request_that_can_be_written_is_answered_by_an_error_of_the_server(folder):
    server = Server.start(folder, "--set", "serving.compatibility=[gorse, metarank]")
    try:
        said = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks",
                "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "7",
                "--mode", "all", "--request-timeout", "60", "--exclude-path-regex", "promote|rollback|bulk",
            ],
            capture_output=True, text=True, timeout=540, cwd=folder,
        )
        assert said.returncode == 0, said.stdout[-6000:] + said.stderr[-2000:]
        metrics = server.get("/metrics").body.decode()
        assert 'status="500"' not in metrics
        counted = [line for line in metrics.splitlines() if line.startswith("recsys_requests_total")]
        assert sum(float(line.split()[-1]) for line in counted) > 500
    finally:
        server.stop()
