"""Find and name the process that stands in the way, for the one line that an operator reads."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

_PROC = Path("/proc")
_LISTEN = "0A"
_COMMAND_LENGTH = 120


def is_alive(pid: int) -> bool:
    """Tell whether a process of this number still runs something; 0 stands for an unknown one, which does not."""
    return pid > 0 and bool(_command_line(pid))


def describe(pid: int) -> str:
    """Return ``process 123 (its command line)``."""
    if pid <= 0:
        return "another process"
    return f"process {pid} ({_command_line(pid) or 'command unknown'})"


def is_free(port: int) -> bool:
    """Tell whether 127.0.0.1:``port`` can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not in anybody's way
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def listener(port: int) -> int:
    """Return the process that listens on ``port``, or 0 when it is not ours to see."""
    return _listener_from_proc(port) if _PROC.joinpath("net/tcp").exists() else _listener_from_lsof(port)


def _listener_from_proc(port: int) -> int:
    rows = [line.split() for name in ("tcp", "tcp6") for line in _lines(_PROC / "net" / name)[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port}
    for folder in _PROC.glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in sockets for link in (folder / "fd").iterdir()):
                return int(folder.name)
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
    return 0


def _listener_from_lsof(port: int) -> int:
    output = _ask("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-t").split()
    return int(output[0]) if output else 0


def _command_line(pid: int) -> str:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        words = _ask("ps", "-o", "command=", "-p", str(pid))
    printable = "".join(letter if letter.isprintable() else " " for letter in words).strip()
    return printable if len(printable) <= _COMMAND_LENGTH else f"{printable[:_COMMAND_LENGTH]}…"


def _ask(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False).stdout  # noqa: S603


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").splitlines()
    except OSError:
        return [""]
