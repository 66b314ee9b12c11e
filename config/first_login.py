"""What a newcomer needs to get in, written once into ``VAR_DIR/first-login.env``: a log-in, and a key of each kind."""

from __future__ import annotations

import shlex
from pathlib import Path

from django.conf import settings
from django.db import transaction

from config.runtime import write_once
from external_apis import keys
from external_apis.models import KeyMode, KeyType, Tenant
from external_apis.scopes import EVERY_SCOPE

__all__ = ["write"]

FIRST_TENANT = "first"


def write(username: str) -> Path:
    """Write the file where it survives the scrollback, readable by its owner alone; a shell can source it.

    One that stands there is left alone. Returns its path.
    """
    path: Path = settings.VAR_DIR / "first-login.env"
    if not path.exists():
        lines = {
            "ADMIN_URL": f"{settings.PUBLIC_BASE_URL}/admin/",
            "ADMIN_USER": username,
            "ADMIN_PASSWORD": settings.ADMIN_PASSWORD,
            "ADMIN_API_KEY": settings.ADMIN_API_KEY,
            **_make_keys(),
        }
        write_once(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in lines.items()))
    return path


def _make_keys() -> dict[str, str]:
    """Return tokens by variable: ``SECRET_LIVE_KEY``, ``SECRET_TEST_KEY``, and the two publishable ones.

    The secret ones may do everything; the publishable ones belong to a tenant, so there is a first one.
    """
    with transaction.atomic():
        tenant, _ = Tenant.objects.get_or_create(slug=FIRST_TENANT, defaults={"name": "First tenant"})
        made = {}
        for type_ in KeyType.values:
            for mode in KeyMode.values:
                is_secret = type_ == KeyType.SECRET
                rights = {"scopes": [EVERY_SCOPE]} if is_secret else {"tenant_id": tenant.pk}
                body = {"title": f"First {type_} {mode} key", "type": type_, "mode": mode, **rights}
                made[f"{type_}_{mode}_key".upper()] = keys.create(body).token
    return made
