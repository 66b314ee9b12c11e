"""The client ids and secrets of their apps, where no row holds them: in a ``.env`` file, or this project's settings.

Settings of another project are never imported: that would run its code. Where this product is installed in the same
project, its settings are the ones that are loaded anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from connections.imports.django_oauth import allauth, social_auth
from connections.imports.django_oauth.old_rows import OldApp, OldClient

__all__ = ["Clients", "variable_name"]

_KEY = re.compile(r"SOCIAL_AUTH_([A-Z0-9][A-Z0-9_]*)_KEY")


class Clients:
    """``variables`` go before the settings; they are named as social-auth's settings are, and for allauth, which has
    no such names, ``SOCIALACCOUNT_<NAME>_CLIENT_ID`` and ``_CLIENT_SECRET``."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def find(self, kind: str, name: str) -> OldClient | None:
        """Return the client of a provider of theirs, None where nobody tells."""
        if kind == allauth.KIND:
            prefix = f"SOCIALACCOUNT_{variable_name(name)}"
            named = self._variables.get(f"{prefix}_CLIENT_ID"), self._variables.get(f"{prefix}_CLIENT_SECRET")
            return _client(*named) or _of_allauth(name)
        prefix = f"SOCIAL_AUTH_{variable_name(name)}"
        return _client(self._setting(f"{prefix}_KEY"), self._setting(f"{prefix}_SECRET"))

    def named(self) -> list[OldApp]:
        """Return the backends of social-auth that are configured, by names as good as the settings' are."""
        names = sorted({*self._variables, *(name for name in dir(settings) if name.startswith("SOCIAL_AUTH_"))})
        found = [_KEY.fullmatch(name) for name in names]
        apps = [OldApp(social_auth.KIND, match[1].lower().replace("_", "-")) for match in found if match]
        return [app for app in apps if self.find(app.kind, app.provider) is not None]

    def _setting(self, name: str) -> Any:
        return self._variables.get(name) or getattr(settings, name, None)


def variable_name(name: str) -> str:
    """Return what social-auth makes of a backend's name in the names of its settings: ``GOOGLE_OAUTH2``."""
    return re.sub(r"[^A-Z0-9]+", "_", name.upper())


def _of_allauth(name: str) -> OldClient | None:
    providers = getattr(settings, "SOCIALACCOUNT_PROVIDERS", None)
    found = providers.get(name) if isinstance(providers, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    apps = found.get("APPS")
    app = found.get("APP") or (apps[0] if isinstance(apps, list | tuple) and len(apps) == 1 else None)
    return _client(app.get("client_id"), app.get("secret")) if isinstance(app, Mapping) else None


def _client(client_id: Any, secret: Any) -> OldClient | None:
    if not client_id or not isinstance(client_id, str):
        return None
    return OldClient(client_id, secret if isinstance(secret, str) else "")
