"""Which row of the catalogue a provider of theirs is.

social-auth's names are those of social-core's backends, which the catalogue is made of; allauth's are mostly the same
with an underscore, and those that are not stand here.
"""

from __future__ import annotations

import re

__all__ = ["candidates"]

_SUFFIX = re.compile(r"-oauth2?$")
_OF_ALLAUTH = {"apple": "apple-id", "microsoft": "microsoft-graph", "windowslive": "onedrive"}


def candidates(name: str) -> tuple[str, ...]:
    """Return the slugs that a provider may have here, the likeliest first: of ``linkedin_oauth2`` also ``linkedin``."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:90]
    if not slug:
        return ()
    bare = _SUFFIX.sub("", slug)
    found = (_OF_ALLAUTH.get(name, slug), bare, f"{bare}-oauth2", f"{bare}-oauth1")
    return tuple(dict.fromkeys(found))
