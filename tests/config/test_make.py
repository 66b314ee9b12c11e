"""The Makefile's choice of Python, and its repairs, with small stand-ins for the interpreters."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from config import runtime

if TYPE_CHECKING:
    from pathlib import Path

SHIM = '#!/bin/sh\necho "pyenv: $0: command not found" >&2\nexit 127\n'
# Answers every `-c` question with yes, names itself, and "makes" a .venv that holds another one like it.
STAND_IN = """#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo "$(basename "$0") $*" >>calls ;;
"-m pip") echo "pip $*" >>calls ;;
"--version "*) echo Python ;;
"-c import fcntl"*) exec sh .ci/venv "$3" locked ;;
"-c import ensurepip, venv") [ ! -e no-ensurepip ] ;;
"-c import sys; print"*) echo 3.12 ;;
esac
"""
OLD = "#!/bin/sh\nexit 1\n"


class Bench:
    """A checkout in a folder with a space, and a PATH that holds the system's tools but no Python except ours."""

    def __init__(self, base: Path) -> None:
        self.checkout = base / "a clone ü"
        self.tools = base / "bin"
        self.tools.mkdir()
        (self.checkout / "requirements").mkdir(parents=True)
        for name in ("Makefile", ".ci"):
            source = runtime.CHECKOUT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.checkout / name)
        for name in ("run", "dev"):
            (self.checkout / "requirements" / f"{name}.txt").write_text(f"{name} 1\n")
        for tool in ("sh", "make", "cat", "cksum", "rm", "mkdir", "cp", "basename", "env"):
            found = shutil.which(tool)
            assert found
            (self.tools / tool).symlink_to(found)

    def put(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def make(self, target: str) -> tuple[int, str]:
        done = subprocess.run(
            [self.tools / "make", "--no-print-directory", target],
            cwd=self.checkout,
            env={"PATH": str(self.tools), "HOME": str(self.checkout)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def calls(self) -> list[str]:
        path = self.checkout / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_newest_python_that_really_runs_is_taken(bench: Bench) -> None:
    bench.put("python3.14", SHIM)
    bench.put("python3.13", OLD)
    for name in ("python3.12", "python3.11", "python3"):
        bench.put(name, STAND_IN)
    status, output = bench.make("run")
    assert status == 0, output
    venv, pip = bench.calls()
    assert venv == "python3.12 -m venv --clear .venv"
    assert "--require-hashes -r requirements/run.txt" in pip


def test_no_python_is_one_line(bench: Bench) -> None:
    bench.put("python3.14", SHIM)
    bench.put("python3", OLD)
    status, output = bench.make("run")
    assert status
    assert output.splitlines()[0].startswith("No Python 3.11 or newer found.")
    assert "pyenv" not in output


def test_a_python_without_ensurepip_names_the_package(bench: Bench) -> None:
    bench.put("python3.12", STAND_IN)
    (bench.checkout / "no-ensurepip").touch()
    status, output = bench.make("run")
    assert status
    assert "apt install python3.12-venv" in output.splitlines()[0]
    assert not (bench.checkout / ".venv").exists()


def test_dependencies_are_installed_again_only_when_the_lock_changed(bench: Bench) -> None:
    bench.put("python3", STAND_IN)
    bench.make("run")
    bench.calls()
    bench.make("run")
    assert bench.calls() == []
    (bench.checkout / "requirements" / "run.txt").write_text("run 2\n")
    bench.make("run")
    (call,) = bench.calls()
    assert call.endswith("requirements/run.txt")


def test_run_is_content_with_what_test_installed_and_not_the_other_way_round(bench: Bench) -> None:
    bench.put("python3", STAND_IN)
    bench.make("run")
    bench.calls()
    bench.make("test")
    (call,) = bench.calls()
    assert call.endswith("requirements/dev.txt")
    bench.make("run")
    assert bench.calls() == []


def test_a_venv_whose_python_is_gone_is_made_anew(bench: Bench) -> None:
    bench.put("python3", STAND_IN)
    bench.make("run")
    bench.calls()
    (bench.checkout / ".venv" / "bin" / "python").unlink()
    bench.make("run")
    assert next(call.partition(" -")[0] for call in bench.calls()) == "python3"
    assert (bench.checkout / ".venv" / "bin" / "python").exists()


def test_an_interrupted_installation_is_taken_up_again(bench: Bench) -> None:
    bench.put("python3", STAND_IN.replace('echo "pip $*" >>calls', "exit 1"))
    assert bench.make("run")[0]
    bench.put("python3", STAND_IN)
    shutil.copy(bench.tools / "python3", bench.checkout / ".venv" / "bin" / "python")
    bench.calls()
    assert bench.make("run")[0] == 0
    assert len(bench.calls()) == 1
