"""``python -m connections.sandbox``: the sandbox as a process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from connections.sandbox.application import build_application
from connections.sandbox.server import Server

PARENT_CHECK_SECONDS = 0.25


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        server = Server(
            options.host,
            options.port,
            build_application(options.callback_origin),
            patience_seconds=options.patience,
            is_quiet=options.quiet,
        )
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"sandbox: cannot listen on {options.host}:{options.port}: {reason}", file=sys.stderr)
        return 2
    if options.die_with_parent is not None:
        parent = options.die_with_parent or os.getppid()
        threading.Thread(target=_follow_parent, args=(parent,), daemon=True).start()
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"sandbox listening on http://{host}:{server.port}", flush=True)
    server.serve_forever()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m connections.sandbox", description="A strict fake provider.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port and prints it")
    parser.add_argument("--quiet", action="store_true", help="no line for each request")
    parser.add_argument("--patience", type=float, default=10.0, metavar="SECONDS", help="time to send one request in")
    parser.add_argument(
        "--callback-origin",
        action="append",
        default=[],
        metavar="URL",
        help="where the product listens, such as http://127.0.0.1:8000; may be given several times",
    )
    parser.add_argument(
        "--die-with-parent",
        nargs="?",
        type=int,
        const=0,
        metavar="PID",
        help="exit when the parent is gone; naming its PID also catches one that is gone already",
    )
    return parser.parse_args(arguments)


def _leave(_signal: int, _frame: object) -> None:
    # Every request thread is a daemon and nothing needs saving, so the quickest way out is the right one.
    os._exit(0)


def _follow_parent(parent: int) -> None:
    """Exit when the process that started this one is gone.

    The kernel's parent-death signal follows the parent's *thread*, and exists on Linux alone; asking costs nothing.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
