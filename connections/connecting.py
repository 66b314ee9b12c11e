"""From an attempt to a connection: what begins one, and what its tokens are stored as. The front door of OAuth flows.

The browser's flows (`begin_flow`, `find_flow`, `finish_flow`) and the terminal's device code (`begin_device`,
`finish_device`) both end in `_store`: one transaction makes the connection, or renews the one that is authorised again,
which keeps its id and slug.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from connections.editing import check_connection, create_connection
from connections.models import ConnectLink, ExternalApiConnection, OAuthFlow
from connections.oauth import device, events, first_answers, flows, grants, trips
from external_apis import request_context
from external_apis.callbacks import callback_url
from external_apis.crypto import Key
from external_apis.errors import ApiManagerError, FlowRefused, GrantKept, NotFound
from external_apis.models import ExternalApi
from external_apis.providers import require_active
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "Wish",
    "begin_device",
    "begin_flow",
    "collect",
    "find_flow",
    "finish_device",
    "finish_flow",
    "redirect_uri",
    "store_late",
]

find_flow = flows.find
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

OnStored = Callable[[ExternalApiConnection], None]


@dataclass(frozen=True)
class Wish:
    """What somebody wants to connect: a new account for whom ``body`` says, or ``connection`` once more.

    ``body`` has keys of the body that makes a connection: ``connection_name``, ``sales_channel_id``, ``partner_id``,
    ``user_id``, ``owner_id`` and ``provider_data`` with the values of URL variables.
    """

    api: ExternalApi
    bound_to: str
    connection: ExternalApiConnection | None = None
    body: Mapping[str, Any] | None = None
    link: ConnectLink | None = None
    scope: Scope = EVERYTHING


def redirect_uri(api: ExternalApi, origin: str = "") -> str:
    """Return where the provider sends the browser back to.

    That is `callback_url`; but where both it and the ``origin`` at which the browser is are of this machine, it is at
    the browser's own, so that ``localhost`` and ``127.0.0.1`` both keep their cookies.
    """
    registered, public = callback_url(api), settings.PUBLIC_BASE_URL
    is_ours = registered.startswith(f"{public}/") and "redirect_uri" not in api.api_config.get(api.auth_type, {})
    if is_ours and _is_loopback(public) and _is_loopback(origin):
        return origin + registered.removeprefix(public)
    return registered


def begin_flow(wish: Wish, *, origin: str = "") -> str:
    """Begin an attempt and return the provider's URL for the browser, which may be sent there at once.

    ``origin`` is where the browser sees us (``http://localhost:8000``). Raises as `check_connection` and `trips.begin`.
    """
    flow, provider_data, owner_id = _new_flow(wish)
    flow.redirect_uri = redirect_uri(wish.api, origin)
    return trips.begin(flow, provider_data, origin=origin, owner_id=owner_id)


def finish_flow(
    flow: OAuthFlow,
    parameters: Mapping[str, str],
    bound_to: Collection[str],
    *,
    scope: Scope = EVERYTHING,
    on_stored: OnStored | None = None,
) -> ExternalApiConnection | None:
    """Finish what `find_flow` found with what the callback brought; ``bound_to`` is all that the asker has shown to be.

    An attempt of a program or terminal to which a browser brings the answer is kept for that one, and None returned.
    ``on_stored`` is called within the transaction that stores the connection. Raises `FlowRefused` for somebody else's
    attempt, which stays as it was, and for one that is used or too old; what `trips.exchange` raises is noted.
    """
    if flow.bound_to not in bound_to:
        if not flows.is_parkable(flow):
            message = "This attempt to connect was begun in another browser or session. Please begin again in this one."
            raise FlowRefused(message, reason="foreign")
        flows.park(flow, parameters)
        return None
    flows.claim(flow)
    try:
        _require_usable(flow)
        key = first_answers.key_for(flow)
        answer = first_answers.Answer(*trips.exchange(flow, parameters))
        return _keep_and_store(flow, answer, key, cause="callback", scope=scope, on_stored=on_stored)
    except GrantKept:
        raise
    except ApiManagerError as error:
        _note_failure(flow, error, "callback")
        raise


def collect(flow: OAuthFlow, bound_to: Collection[str], *, scope: Scope = EVERYTHING) -> ExternalApiConnection | None:
    """Finish an attempt whose answer a browser has brought; None while it has not. Raises as `finish_flow`."""
    flow.refresh_from_db()
    parameters = flows.parked(flow)
    if parameters is not None:
        return finish_flow(flow, parameters, bound_to, scope=scope)
    flows.require_open(flow)
    return None


def begin_device(wish: Wish) -> tuple[OAuthFlow, device.DeviceCode]:
    """Ask the provider for a device code (RFC 8628). Raises as `begin_flow`."""
    flow, provider_data, owner_id = _new_flow(wish)
    return flow, device.begin(flow, provider_data, owner_id=owner_id)


def finish_device(
    flow: OAuthFlow,
    code: device.DeviceCode,
    *,
    sleep: Callable[[float], None],
    clock: Callable[[], datetime] = timezone.now,
) -> ExternalApiConnection:
    """Ask until somebody has confirmed the code, then store the connection.

    ``sleep`` takes seconds. Raises `FlowRefused` when it is denied or too late, and `GrantRefused`.
    """
    try:
        key = first_answers.key_for(flow)
        answer = first_answers.Answer(*device.wait(flow, code, sleep=sleep, clock=clock))
        return _keep_and_store(flow, answer, key, cause="device_code")
    except GrantKept:
        raise
    except ApiManagerError as error:
        _note_failure(flow, error, "device_code")
        raise


def store_late(
    flow: OAuthFlow, answer: first_answers.Answer, *, on_stored: OnStored | None = None
) -> ExternalApiConnection:
    """Store what an exchange gave that was cut off before it could be. Raises what `finish_flow` does, and notes it."""
    try:
        _require_usable(flow)
        return _store(flow, answer, cause="recovery", on_stored=on_stored)
    except ApiManagerError as error:
        _note_failure(flow, error, "recovery")
        raise


# --- parts --------------------------------------------------------------------------------------------------------


def _new_flow(wish: Wish) -> tuple[OAuthFlow, dict[str, Any], str]:
    """Return an attempt that is not stored yet, its provider data, and who is to look after the connection."""
    body = {name: value for name, value in (wish.body or {}).items() if value is not None}
    if wish.connection is not None:
        row, provider_data = wish.connection, dict(wish.connection.provider_data)
    else:
        body.setdefault("connection_name", wish.api.name)
        row = check_connection(wish.api, body, wish.scope)
        provider_data = dict(row.provider_data)
    flow = OAuthFlow(
        external_api=wish.api,
        connection=wish.connection,
        tenant=row.tenant,
        partner=row.partner,
        user=row.user,
        connection_name=row.connection_name,
        created_by=request_context.current().actor[:200],
        bound_to=wish.bound_to,
        link=wish.link,
    )
    _require_usable(flow)
    return flow, provider_data, row.owner_id or ""


def _require_usable(flow: OAuthFlow) -> None:
    """Raise `ConnectionInactive` or `NotFound` for what was switched off or deleted, perhaps meanwhile."""
    if flow.external_api.is_deleted or (flow.connection is not None and flow.connection.is_deleted):
        raise NotFound("What was to be connected does not exist any more.")
    for tenant in (flow.external_api.tenant, flow.tenant):
        require_active(tenant)


def _keep_and_store(
    flow: OAuthFlow,
    answer: first_answers.Answer,
    key: Key,
    *,
    cause: str,
    scope: Scope = EVERYTHING,
    on_stored: OnStored | None = None,
) -> ExternalApiConnection:
    """Store a connection; `GrantKept` where the database is away, and the answer is safe until it is back."""
    entry = first_answers.keep(flow, answer, cause, key)
    try:
        connection = _store(flow, answer, cause=cause, scope=scope, on_stored=on_stored)
    except (OperationalError, InterfaceError):
        if entry is None:
            raise
        raise GrantKept(
            "The provider has agreed, but our database is away. What it gave is kept safe: the connection is made as "
            "soon as the database is back. Nothing has to be repeated."
        ) from None
    except ApiManagerError:
        first_answers.settle(entry)
        raise
    first_answers.settle(entry)
    return connection


def _store(
    flow: OAuthFlow,
    answer: first_answers.Answer,
    *,
    cause: str,
    scope: Scope = EVERYTHING,
    on_stored: OnStored | None = None,
) -> ExternalApiConnection:
    with transaction.atomic():
        made = OAuthFlow.objects.select_for_update().values_list("made_connection_id", flat=True).get(pk=flow.pk)
        if made:  # by a sweep that found the answer in the spool while we were kept from storing it
            return ExternalApiConnection.objects.select_related("external_api", "credential", "grant").get(pk=made)
        connection = _again(flow) if flow.connection_id else _anew(flow, answer.kept, scope)
        scopes = list(flow.requested_scopes)
        connection = grants.store_tokens(connection, answer.tokens, cause=cause, requested_scopes=scopes)
        flow.made_connection, flow.secrets = connection, {}
        flow.used_at = flow.used_at or timezone.now()
        flow.save(update_fields=["made_connection", "secrets", "used_at"])
        if on_stored is not None:
            on_stored(connection)
    return connection


def _again(flow: OAuthFlow) -> ExternalApiConnection:
    rows = ExternalApiConnection.objects.select_for_update(of=("self",)).filter(deleted_at=None, pk=flow.connection_id)
    connection = rows.select_related("external_api", "credential").first()
    if connection is None:
        raise NotFound("What was to be connected does not exist any more.")
    return connection


def _anew(flow: OAuthFlow, kept: flows.Kept, scope: Scope) -> ExternalApiConnection:
    body = {
        "connection_name": flow.connection_name,
        "provider_data": kept.provider_data,
        "sales_channel_id": flow.tenant_id,
        "partner_id": flow.partner_id,
        "user_id": flow.user_id,
        "owner_id": kept.owner_id or None,
    }
    return create_connection(flow.external_api, body, scope)


def _note_failure(flow: OAuthFlow, error: ApiManagerError, cause: str) -> None:
    with transaction.atomic():
        flows.fail(flow, error.message)
        if flow.connection is not None:
            events.record(
                flow.connection, "reauthorization_failed", cause=cause, outcome="failed", message=error.message
            )


def _is_loopback(origin: str) -> bool:
    return urlsplit(origin).hostname in _LOOPBACK
