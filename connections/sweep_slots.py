"""How many sweeps of a kind run at a time over all workers, so that none of them takes every process.

A matter of fairness and no lock: rows are claimed (see `due_work`), and any number of sweeps would do no harm. So a
slot is a key in Valkey that its holder's thread keeps alive; it ends soon after a killed holder, and without Valkey,
which also brings the tasks, a sweep runs as it comes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import redis

from connections.wakeups import wake
from external_apis import valkey

__all__ = ["in_slot"]

_LIVES_MS, _BEAT_SECONDS = 15_000, 4.0
_MISSED_LIVES_MS = 600_000

# Each slot is a key; the last key tells that somebody was turned away.
_TAKE = """
for i = 1, #KEYS - 1 do
    if redis.call('SET', KEYS[i], ARGV[1], 'NX', 'PX', ARGV[2]) then return i end
end
redis.call('SET', KEYS[#KEYS], '1', 'PX', ARGV[3])
return 0
"""
_KEEP = """
local held = redis.call('GET', KEYS[1])
if not held or held == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 0
"""
_LEAVE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return redis.call('DEL', KEYS[2])
"""


def in_slot(
    task: str,
    at_most: int,
    sweep: Callable[[Callable[[], None]], object],
    part: str = "",
    lives_ms: int | None = None,
) -> None:
    """Run a sweep unless ``at_most`` of the same task are running, one of which then wakes another as it ends.

    The sweep is given a function that leaves its slot: once it takes nothing more and only waits for what it has begun.
    ``part`` stands for a part of the task's work, which has slots of its own. ``lives_ms`` is how long a slot outlives
    a holder that was killed, and one whose threads cannot run to keep it, as while a regular expression is matched.
    """
    lives_ms = lives_ms or _LIVES_MS
    of = f"{task}:{part}" if part else task
    names = [f"{valkey.PREFIX}sweep:{of}:{number}" for number in range(1, at_most + 1)]
    missed = f"{valkey.PREFIX}sweep:{of}:missed"
    holder = secrets.token_hex(8)
    try:
        taken = _run(_TAKE, [*names, missed], holder, lives_ms, _MISSED_LIVES_MS)
    except redis.RedisError:
        sweep(lambda: None)
        return
    if not taken:
        return
    name = names[taken - 1]
    is_over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(name, holder, lives_ms, is_over), name="sweep-slot", daemon=True)
    keeper.start()

    def leave() -> None:
        if is_over.is_set():
            return
        is_over.set()
        keeper.join()
        with suppress(redis.RedisError):
            if _run(_LEAVE, [name, missed], holder):
                wake(task)

    try:
        sweep(leave)
    finally:
        leave()


def _keep(name: str, holder: str, lives_ms: int, is_over: threading.Event) -> None:
    while not is_over.wait(_BEAT_SECONDS):
        with suppress(redis.RedisError):
            _run(_KEEP, [name], holder, lives_ms)


def _run(script: str, keys: list[str], *values: str | int) -> int:
    return int(cast("int", valkey.quick_client().eval(script, len(keys), *keys, *map(str, values))))
