"""Known holes in what is installed here: pip-audit over the environment, or one line where no database is in reach.

Exit code 1 where a package has a known hole, 0 where none has one or where nobody could be asked.
"""

from __future__ import annotations

import json
import subprocess
import sys

SECONDS = 120
UNREACHED = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ServiceError", "Max retries exceeded", "SSLError",
             "ProxyError", "Could not connect", "Failed to upgrade", "HTTPError")


def main() -> int:
    options = ["--local", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    command = [sys.executable, "-m", "pip_audit", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"not audited: the database of holes did not answer within {SECONDS} s")
        return 0
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        told = done.stderr.strip().splitlines() or ["no answer"]
        if any(word in done.stderr for word in UNREACHED):
            print(f"not audited: no database of holes is in reach ({told[-1][:150]})")
            return 0
        print(f"pip-audit failed: {told[-1][:300]}")
        return 1
    holes = [(p["name"], p["version"], hole) for p in packages for hole in p.get("vulns", ())]
    for name, version, hole in holes:
        print(f"{name} {version}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version yet'}")
    known = [p["name"] for p in packages if "skip_reason" not in p]
    if 10 * len(known) < len(packages):
        print(f"not audited: the database in reach knows {len(known)} of {len(packages)} packages")
    else:
        print(f"{len(known)} of {len(packages)} packages audited, {len(holes)} known holes")
    return int(bool(holes))


if __name__ == "__main__":
    sys.exit(main())
