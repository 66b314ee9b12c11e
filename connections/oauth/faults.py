"""Named points of a renewal at which a test lets a worker die or wait; in an installation that serves nothing happens.

``settings.FAULT_FILE`` is empty unless the environment asks for it twice (see `config.settings`).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final, Literal, get_args

from django.conf import settings

__all__ = ["POINTS", "Point", "reach"]

Point = Literal["claimed", "before_send", "after_answer", "spooled", "before_commit", "after_commit", "settled"]
POINTS: Final[tuple[str, ...]] = get_args(Point)
_LONGEST_PAUSE_SECONDS = 60.0


def reach(point: Point) -> None:
    """Do what ``FAULT_FILE`` asks for at this point, once.

    ``kill <point>`` is SIGKILL, the file being removed before; ``wait <point>`` waits until somebody removes the file,
    which then says ``waiting``.
    """
    if not settings.FAULT_FILE:
        return
    file = Path(settings.FAULT_FILE)
    asked = file.read_text("ascii") if file.exists() else ""
    if asked == f"kill {point}":
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    elif asked == f"wait {point}":
        file.write_text("waiting", "ascii")
        until = time.monotonic() + _LONGEST_PAUSE_SECONDS
        while file.exists() and time.monotonic() < until:
            time.sleep(0.01)
