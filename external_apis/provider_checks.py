"""``manage.py check --database default``: providers whose stored configuration cannot work are named, with the reason.

The services let nothing of it in; rows written in SQL, restored, or stored by an older release can still hold it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.db import DEFAULT_DB_ALIAS, DatabaseError

from external_apis.api_config import parse
from external_apis.errors import InvalidConfiguration
from external_apis.models import Environment, ExternalApi, ProviderStatus
from external_apis.oauth_config import RENEWED
from external_apis.url_variables import names_in

__all__ = ["check_providers"]

_AT_MOST = 50


def check_providers(*, databases: Sequence[str] | None = None, **_options: Any) -> Sequence[checks.CheckMessage]:
    """Warn of live, active providers that no call can succeed with; asks the database only where Django lets it."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    rows = ExternalApi.objects.filter(deleted_at=None, status=ProviderStatus.ACTIVE).order_by("pk")
    try:
        return [
            checks.Warning(
                f"Provider {api.slug} ({api.pk}) cannot work: {problem}",
                hint="Correct it in the admin, or deactivate it.",
                id=f"external_apis.W00{number}",
            )
            for api in rows.only("slug", "api_config", "environment").iterator(chunk_size=500)
            for number, problem in _problems(api)
        ][:_AT_MOST]
    except DatabaseError:  # not migrated yet
        return []


def _problems(api: ExternalApi) -> Iterator[tuple[int, str]]:
    config = api.api_config
    block = config.get(api.auth_type)
    block = block if isinstance(block, dict) else {}
    if api.auth_type in RENEWED and not block.get("token_url"):
        yield 1, f"{api.auth_type} without {api.auth_type}.token_url gets no token."
        return
    urls = {"base_url": config.get("base_url"), **{f"{api.auth_type}.{key}": block[key] for key in block}}
    plain = [path for path, url in urls.items() if isinstance(url, str) and url.startswith("http://")]
    if plain and api.environment == Environment.PRODUCTION:
        yield 2, f"{', '.join(sorted(plain))} uses http, which sends credentials in clear."
        return
    if unknown := sorted(_unknown_placeholders(config)):
        yield 3, f"a header holds the unknown placeholder {{{unknown[0][:64]}}}."
        return
    try:
        parse(config, environment="")
    except InvalidConfiguration as error:
        yield 4, error.message


def _unknown_placeholders(config: dict[str, Any]) -> Iterator[str]:
    """Placeholders in headers that are sent as they stand; those of credentials belong into ``also.headers``."""
    headers = config.get("default_headers")
    for text in headers.values() if isinstance(headers, dict) else ():
        yield from names_in(str(text))
