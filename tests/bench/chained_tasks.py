"""Three empty Celery tasks in a chain: what a workflow of three empty steps is measured by."""

from __future__ import annotations

import time

from celery import chain, shared_task

from external_apis import valkey

COUNT = f"{valkey.PREFIX}bench:chains"
WORKFLOW = "bench-three-steps"


@shared_task(name="bench.one")
def one() -> None:
    pass


@shared_task(name="bench.two")
def two() -> None:
    pass


@shared_task(name="bench.three")
def three() -> None:
    valkey.client().incr(COUNT)


def run_chains(count: int) -> float:
    """Return how many chains a second were begun and ended."""
    valkey.client().delete(COUNT)
    began = time.monotonic()
    for _ in range(count):
        chain(one.si(), two.si(), three.si()).apply_async()
    while int(valkey.client().get(COUNT) or 0) < count:
        time.sleep(0.005)
    return count / (time.monotonic() - began)
