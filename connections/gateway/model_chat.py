"""Chat completions of an AI model, forwarded through its connection, with what they use written down."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from django.db import Error

from connections import lookup, warm
from connections.gateway.allowance import check_allowed
from connections.gateway.answers import gather, headers_of, respond, stream
from connections.gateway.calls import GatewayCall, berthed
from connections.gateway.chat_usage import TokenMeter
from connections.gateway.paths import Route
from external_apis.backoffice import ai_usage
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError, Conflict, ModelUnusable, NotFound
from external_apis.tenancy import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http.response import HttpResponseBase

    from connections.client import ApiClient
    from connections.client.passage import PassedAnswer
    from connections.models import ExternalApiConnection
    from external_apis.backoffice.ai_usage import TokenCounts
    from external_apis.backoffice.models import AiModel
    from external_apis.models import Account

__all__ = ["complete"]

log = structlog.get_logger(__name__)

PATH = "/chat/completions"
"""Below the provider's base URL, which ends in ``/v1`` or whatever stands there."""


def complete(model: AiModel, body: Mapping[str, Any], payer: Account | None, scope: Scope) -> HttpResponseBase:
    """Forward a chat completion and return the provider's answer as it is, in events where ``stream`` asks for them.

    An answer that is no error is counted when it has ended, or when nobody wants the rest of it; ``payer`` is charged.
    No database connection is held while the provider is waited for. Raises `ModelUnusable`, `ConnectionUnusable`,
    `TooManyCalls`, `Forbidden` where the provider's ``proxy`` block does not allow the path, and what a call raises.
    """
    if not model.enabled:
        raise ModelUnusable(f"The AI model {model.pk} is switched off.")
    client, row = _reach(model, scope)
    check_allowed(client.target.config.proxy, "POST", PATH)
    if payer is not None:
        ai_usage.require_balance(payer)
    with berthed(row.pk) as leave:
        give_back_database_connections()
        passed = _send(client, _asked(model, body))
        return _relay(passed, partial(_record, model, row.pk, payer), leave)


def _reach(model: AiModel, scope: Scope) -> tuple[ApiClient, ExternalApiConnection]:
    """Open the model's connection: one of its own tenant, whoever asks."""
    own = Scope(model.tenant_id, scope.is_sandbox)
    reference = model.connection
    if model.provider and not reference.startswith("conn_") and "/" not in reference:
        reference = f"{model.provider}/{reference}".rstrip("/")
    if not reference:
        raise ModelUnusable(f"The AI model {model.pk} has no connection.")
    missing = ModelUnusable(f"The AI model {model.pk} names a connection that there is not.")
    try:
        if not reference.startswith("conn_"):
            reference = lookup.find_in_scope(reference, own).pk
        client, row = warm.lend_client(reference, own)
    except NotFound:
        raise missing from None
    except Conflict as error:
        raise ModelUnusable(f"The AI model {model.pk} does not name one connection. {error.message}") from None
    if row.tenant_id != model.tenant_id:  # a model of the whole installation is no way to a tenant's account
        raise missing
    return client, row


def _asked(model: AiModel, body: Mapping[str, Any]) -> dict[str, Any]:
    asked = {**body, "model": model.name}
    if asked.get("stream"):
        asked["stream_options"] = {**(asked.get("stream_options") or {}), "include_usage": True}
    return asked


def _send(client: ApiClient, asked: Mapping[str, Any]) -> PassedAnswer:
    accepted = "text/event-stream" if asked.get("stream") else "application/json"
    headers = {"Content-Type": "application/json", "Accept": accepted}
    content = json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode()
    return GatewayCall(client, "POST", Route(PATH, "", is_dry_run=False), headers, content).send()


def _relay(passed: PassedAnswer, record: Callable[[TokenCounts], None], leave: Callable[[], None]) -> HttpResponseBase:
    def end(tokens: TokenCounts) -> None:
        try:
            if 200 <= passed.status < 300:
                record(tokens)
        finally:
            leave()

    encoding = (passed.headers.get("Content-Encoding") or "identity").strip().lower()
    meter = TokenMeter(end, is_readable=encoding == "identity")  # which is all that was asked for
    headers = headers_of(passed)
    content, is_whole = gather(passed)
    meter.hear(content)
    if not is_whole:
        return stream(passed, headers, meter, beginning=content)
    passed.body.close()
    meter.end(is_whole=True)
    return respond(passed.status, headers, content)


def _record(model: AiModel, connection_id: str, payer: Account | None, tokens: TokenCounts) -> None:
    """Write the call down. Where that fails the answer, which the provider has been asked for already, goes out."""
    try:
        ai_usage.record(model, connection_id, payer, tokens)
    except (ApiManagerError, Error) as error:
        log.warning(  # all that it takes to charge for it by hand
            "a chat completion was not counted",
            error=type(error).__name__,
            model=model.pk,
            connection=connection_id,
            user="" if payer is None else payer.pk,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            total_tokens=tokens.total,
        )
    finally:
        give_back_database_connections()
