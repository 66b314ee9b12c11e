"""What this process knows of a provider that sends webhooks, for at most a second: then the database is asked again.

The opened secrets are not used for longer than that, whatever became of the row or its tenant's key meanwhile.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import NoReturn

from connections.webhooks.inbound.schemes import Scheme, scheme_of
from external_apis.call_config import Webhook
from external_apis.errors import ApiManagerError, NotFound, VaultError
from external_apis.ids import can_name
from external_apis.models import ExternalApi
from external_apis.models.providers import ProviderStatus
from external_apis.providers import live, open_config, resolve

__all__ = ["Receiver", "find", "forget", "open_receiver", "webhook_secrets"]

_MOST = 1_000
_AGE_SECONDS = 1.0
_TOLERANCE_SECONDS = 300


@dataclass(frozen=True)
class Receiver:
    """A provider's side of webhooks, opened. ``problem`` says why nothing can be received, where that is so.

    ``api_id`` is empty where there is no such provider. The ``repr`` shows no secret; it cannot be pickled.
    """

    slug: str
    api_id: str = ""
    tenant_id: str | None = None
    scheme: Scheme | None = None
    secrets: tuple[str, ...] = ()
    verify_token: str = ""
    events: tuple[str, ...] = ()
    tolerance_seconds: int = _TOLERANCE_SECONDS
    problem: str = ""

    def __repr__(self) -> str:
        return f"<Receiver {self.slug} {self.api_id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Opened secrets are not pickled.")


class _Shelf:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, Receiver]] = {}
        self._coming: dict[tuple[str, str], Future[Receiver]] = {}

    def find(self, name: tuple[str, str]) -> Receiver:
        kept = self._kept.get(name)
        if kept is not None and kept[0] > monotonic():
            return kept[1]
        with self._lock:
            coming = self._coming.get(name)
            is_mine = coming is None
            if coming is None:
                coming = self._coming[name] = Future()
        # One thread asks the database; those that come meanwhile have its answer, or its error.
        if not is_mine:
            return coming.result()
        try:
            coming.set_result(self._load(name))
        except BaseException as error:
            coming.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._coming[name]
        return coming.result()

    def _load(self, name: tuple[str, str]) -> Receiver:
        began = monotonic()
        receiver = _load(*name)
        with self._lock:
            self._kept = {other: held for other, held in self._kept.items() if held[0] > began}
            if len(self._kept) < _MOST:
                self._kept[name] = (began + _AGE_SECONDS, receiver)
        return receiver


_shelf = _Shelf()


def find(slug: str, api_id: str = "") -> Receiver:
    """Return what is known of a slug's provider, or of the one with an id if it has that slug.

    Without an id it is the one that `resolve` finds for nobody in particular: a tenant's own is named by its id.
    """
    return _shelf.find((slug, api_id))


def forget() -> None:
    """Let go of everything that is kept."""
    global _shelf  # noqa: PLW0603
    _shelf = _Shelf()


def open_receiver(api: ExternalApi) -> Receiver:
    """Open a provider's webhook block. Nothing is raised: ``problem`` tells what is missing."""
    known = Receiver(api.slug, api.pk, api.tenant_id)
    try:
        block = open_config(api).api_config.webhook
    except VaultError as error:
        return _without(known, f"Its secrets cannot be opened: {error.message}")
    except ApiManagerError as error:
        return _without(known, error.message)
    if block is None:
        return _without(known, "It has no webhook block.")
    scheme = scheme_of(block, api.slug)
    if scheme is None:
        return _without(known, "Its webhook block names no scheme, and the slug tells none.")
    secrets = webhook_secrets(block)
    return Receiver(
        slug=api.slug,
        api_id=api.pk,
        tenant_id=api.tenant_id,
        scheme=scheme,
        secrets=secrets,
        verify_token=block.verify_token.get_secret_value() if block.verify_token else "",
        events=tuple(block.events),
        tolerance_seconds=block.tolerance_seconds or _TOLERANCE_SECONDS,
        problem=_closed(api) or ("" if secrets else "Its webhook block has no secret."),
    )


def webhook_secrets(block: Webhook) -> tuple[str, ...]:
    """Return the secrets that count: the one that is named first, then the others by their names."""
    first = [block.secret] if block.secret else []
    others = [block.secrets[name] for name in sorted(block.secrets)]
    return tuple(secret.get_secret_value() for secret in (*first, *others))


def _load(slug: str, api_id: str) -> Receiver:
    api = _find(slug, api_id)
    if api is None:
        return Receiver(slug, problem="There is no such provider.")
    return open_receiver(api)


def _find(slug: str, api_id: str) -> ExternalApi | None:
    if not (can_name(slug) and can_name(api_id)):
        return None
    if api_id:
        return live().select_related("tenant").filter(pk=api_id, slug=slug).first()
    try:
        return resolve(slug, with_inactive=False)
    except NotFound:
        # One that is switched off is told of to its operator.
        return live().select_related("tenant").filter(slug=slug, tenant=None, partner=None).first()
    except ApiManagerError:
        return None


def _closed(api: ExternalApi) -> str:
    if api.status == ProviderStatus.INACTIVE:
        return "It is inactive."
    if api.tenant is not None and not api.tenant.is_active:
        return "Its tenant is inactive."
    return ""


def _without(known: Receiver, problem: str) -> Receiver:
    return Receiver(known.slug, known.api_id, known.tenant_id, problem=problem)


os.register_at_fork(after_in_child=forget)
