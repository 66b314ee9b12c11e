"""No search for garbage while a process loads the product: what it makes stays, and looking took a third of the start.

The settings begin, the project's app ends: every process that serves or runs a command goes through both.
"""

from __future__ import annotations

import gc


def begin() -> None:
    """Look for no garbage from now on."""
    gc.disable()


def end() -> None:
    """Look for garbage again, and never among what there is by now."""
    gc.freeze()
    gc.enable()
