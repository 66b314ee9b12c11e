"""Become another program that does not outlive the process that asked for it.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL USER COMMAND...

A supervisor that is killed cannot stop its children, so each child arranges for its own end: on Linux the kernel sends
``DEATH_SIGNAL`` when the parent dies, elsewhere a small watcher does. ``USER`` is ``-``, or the account to become first
(PostgreSQL refuses to run as root); it keeps ``CAP_DAC_OVERRIDE``, because a checkout may lie below a 0700 home.

A script of its own, on the standard library alone: code between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 28, 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_WATCH_SECONDS = 0.3


def become(user: str) -> None:
    """Drop root for ``user``; the one capability survives the coming exec as an ambient one (Linux)."""
    account = pwd.getpwnam(user)
    libc = ctypes.CDLL(None, use_errno=True)
    is_linux = sys.platform == "linux"
    if is_linux:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        # Else access(2), by which initdb looks for its postgres, ignores the capability.
        libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if is_linux:
        bit = 1 << _CAP_DAC_OVERRIDE
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        libc.capset(header, struct.pack("=6I", bit, bit, bit, 0, 0, 0))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def tie(parent: int, death_signal: int) -> None:
    """Arrange that this process gets ``death_signal`` when ``parent`` dies; call it after any change of user."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            sys.exit(1)
    else:
        watch_from_aside(parent, os.getpid(), death_signal)


def watch_from_aside(parent: int, child: int, death_signal: int) -> None:
    """Leave behind a process, no relative of ``child``, that signals ``child`` once ``parent`` is gone."""
    if os.fork() == 0:
        if os.fork() == 0:
            os.closerange(3, 256)  # the lock on VAR_DIR is among them, and is not the watcher's to hold
            while is_alive(parent):
                if not is_alive(child):
                    os._exit(0)
                time.sleep(_WATCH_SECONDS)
            os.kill(child, death_signal)
        os._exit(0)
    os.wait()


def is_alive(pid: int) -> bool:
    """Tell whether a process of this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(arguments: list[str]) -> None:
    """Run the command line described at the top of this file."""
    parent, death_signal, user, *command = arguments
    if user != "-":
        become(user)
    tie(int(parent), int(death_signal))
    os.execv(command[0], command)  # noqa: S606 - the supervisor's own command, never a user's


if __name__ == "__main__":
    main(sys.argv[1:])
