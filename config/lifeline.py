"""End a worker process whose master was killed.

granian's workers and Celery's pool processes outlive a master that gets SIGKILL and go on holding its port or its
tasks. The supervisor cannot know them if it was killed too, so each looks after itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time

_WATCH_SECONDS = 0.5


def watch_parent() -> None:
    """Kill this process soon after its present parent is gone."""
    threading.Thread(target=_outlive_nobody, args=(os.getppid(),), name="lifeline", daemon=True).start()


def _outlive_nobody(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
