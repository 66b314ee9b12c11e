"""Runs seed 001's clients against an installation: JavaScript by the Node.js that playwright carries, and Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright._impl._driver import compute_driver_executable

SCRIPTS = Path(__file__).parent / "seed_001"


def run_examples(api_base: str, api_key: str, user_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what each client was answered, by what it asked for: first the JavaScript one's, then the Python one's."""
    environ = {**os.environ, "API_BASE": api_base, "API_KEY": api_key, "USER_ID": user_id}
    node = str(compute_driver_executable()[0])
    in_javascript = _answers([node, str(SCRIPTS / "client.mjs")], environ)
    return in_javascript, _answers([sys.executable, str(SCRIPTS / "client.py")], environ)


def _answers(command: list[str], environ: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers
