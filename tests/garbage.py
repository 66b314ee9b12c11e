"""No search for garbage while pytest finds the tests, and none later among what it has made by then.

Millions of objects stay until the process ends; to walk through them again and again took a tenth of the whole run.
"""

from __future__ import annotations

import gc

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
