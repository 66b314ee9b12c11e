"""Ask the public advisory database about every locked package: a known vulnerability fails, no network is only said.

python .ci/audit.py requirements/dev.txt
"""

from __future__ import annotations

import json
import subprocess
import sys

# Distinct from pip-audit's own exit status, which is 1 for a vulnerability and for an unreachable service alike.
_COMMAND = ["-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--disable-pip", "--require-hashes"]
_TIMEOUT_SECONDS = 120


def main(lock: str) -> None:
    """Audit one locked requirements file."""
    command = [sys.executable, *_COMMAND, "--timeout", "10", "-r", lock]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)  # noqa: S603
        dependencies = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        print("Not audited: the advisory service cannot be reached from here.")
        return
    found = [(entry, problem) for entry in dependencies for problem in entry.get("vulns", ())]
    for entry, problem in found:
        fixed = ", ".join(problem["fix_versions"]) or "no version"
        print(f"{entry['name']} {entry['version']}: {problem['id']}, fixed in {fixed}")
    print(f"{len(dependencies)} packages audited, {len(found)} known vulnerabilities.")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main(sys.argv[1])
