"""The sandbox as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.sandbox import ROOT, Sandbox, start_sandbox, stop_sandbox

COMMAND = [sys.executable, "-m", "connections.sandbox"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_says_where_it_listens(sandbox: Sandbox) -> None:
    assert sandbox.url == f"http://127.0.0.1:{sandbox.port}"
    assert sandbox.port > 0


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_stops_at_once_even_while_a_request_hangs(signal_number: signal.Signals) -> None:
    started = start_sandbox()
    with socket.create_connection(("127.0.0.1", started.port)) as client:
        client.sendall(b"GET /hang?key=h HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not started.count("h"):
            time.sleep(0.01)
        began = time.monotonic()
        started.process.send_signal(signal_number)
        assert started.process.wait(5) == 0
        assert time.monotonic() - began < 2
    stop_sandbox(started)


def test_busy_port_is_one_line_and_exit_code_2(sandbox: Sandbox) -> None:
    done = run("--port", str(sandbox.port))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"sandbox: cannot listen on 127.0.0.1:{sandbox.port}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--port", "70000"), ("--port", "-1"), ("--port", "0", "--host", "192.0.2.1")])
def test_impossible_address_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_dies_with_its_parent_however_that_ends() -> None:
    parent_code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({[*COMMAND, '--port', '0', '--die-with-parent']!r}, stdout=subprocess.PIPE, text=True)\n"
        "print(p.stdout.readline().strip(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port = int(parent.stdout.readline().rpartition(":")[2])
    assert accepts(port)
    parent.kill()
    parent.wait(5)
    parent.stdout.close()
    deadline = time.monotonic() + 3
    while accepts(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not accepts(port)


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(10)
    done = run("--port", "0", "--die-with-parent", str(gone.pid))
    assert done.returncode == 0


def test_imports_nothing_of_the_rest() -> None:
    code = (
        "import sys, connections.sandbox.__main__, connections.sandbox.definitions\n"
        "ours = {n for n in sys.modules if n.split('.')[0] in {'external_apis', 'config', 'django', 'requests'}}\n"
        "ours |= {n for n in sys.modules if n.startswith('connections.') and not n.startswith('connections.sandbox')}\n"
        "print(sorted(ours))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_log_lines_carry_no_query() -> None:
    """A line for each request goes to stderr; keys in the query do not."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--die-with-parent"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /echo?api_key=abc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    line = process.stderr.readline()
    process.terminate()
    process.wait(5)
    process.stdout.close()
    process.stderr.close()
    assert " GET /echo 200 " in line
    assert "abc" not in line
