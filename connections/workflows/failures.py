"""What a step's error means: what is told of it, whether it had an effect, and when to try again. No tables."""

from __future__ import annotations

import zlib
from http import HTTPStatus
from pathlib import Path
from sysconfig import get_path
from traceback import extract_tb

from connections.workflows.context import NoJson
from connections.workflows.definitions import Step
from external_apis.errors import ApiManagerError, StepFailed, UpstreamClientError

__all__ = ["describe", "is_refused", "locate", "may_have_happened", "may_pass", "wait_seconds"]

_LONGEST_WAIT_SECONDS = 600.0
_LONGEST_MESSAGE = 500
_LIBRARIES = {Path(__file__).parent, *(Path(get_path(name)) for name in ("stdlib", "purelib", "platlib"))}


def describe(error: Exception) -> tuple[str, str]:
    """Return code and message; of an error that is not ours the type alone, as its message may hold anything."""
    if isinstance(error, ApiManagerError):
        # A provider's words may be such as no database stores.
        clean = error.message.replace("\0", "").encode(errors="replace").decode()
        return error.code, clean[:_LONGEST_MESSAGE]
    if isinstance(error, NoJson):
        return "UNEXPECTED_ERROR", str(error)
    return "UNEXPECTED_ERROR", f"{type(error).__name__} in {locate(error)}"


def locate(error: Exception) -> str:
    """Return file, line and function of the last code of a project's own, or of ours, that an error went through."""
    places = extract_tb(error.__traceback__)
    theirs = [place for place in places if not _LIBRARIES & set(Path(place.filename).parents)]
    for place in (theirs or places)[-1:]:
        return f"{Path(place.filename).name}:{place.lineno}, {place.name}"
    return "an unknown place"


def may_have_happened(error: Exception) -> bool:
    """Whether a step that raised this may have had an effect: of ours the error knows, of others nobody does."""
    if isinstance(error, ApiManagerError):
        return bool(getattr(error, "may_have_happened", False))
    return True


def is_refused(error: Exception) -> bool:
    """Whether somebody said no for good: providers say so again to whoever comes with the same idempotency key.

    A conflict may be with an attempt before, which is still under way.
    """
    if not isinstance(error, UpstreamClientError | StepFailed) or may_pass(error) or may_have_happened(error):
        return False
    return getattr(error, "upstream_status", None) != HTTPStatus.CONFLICT


def may_pass(error: Exception) -> bool:
    """Whether another attempt may have more luck; what returned no JSON would have its effect again for nothing."""
    return error.is_transient if isinstance(error, ApiManagerError) else not isinstance(error, NoJson)


def wait_seconds(step: Step, error: Exception, tries: int, run_id: str) -> float:
    """Return how long to wait after the ``tries``-th failure: doubled each time up to ten minutes, less up to a fifth.

    A provider's own ``Retry-After`` goes before that, up to ten minutes too.
    """
    asked = getattr(error, "retry_after_seconds", None)
    if asked is not None:
        return min(max(float(asked), 0.0), _LONGEST_WAIT_SECONDS)
    share = zlib.crc32(f"{run_id} {tries}".encode()) / 2**32
    return min(step.backoff_seconds * 2.0 ** min(tries - 1, 16), _LONGEST_WAIT_SECONDS) * (0.8 + 0.2 * share)
