"""schemathesis goes through the whole OpenAPI document: good and bad requests to every operation, seeded and bounded.

The gateway's provider answers everything with 200, so that all else is the gateway's own. Everybody asks with the
installation's key and with ids that exist. All of its checks hold but one: that what fits the document is accepted.
The document does not tell every rule: which hosts a URL may have, what belongs to an auth type, that only a connection
with OAuth is refreshed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import schemathesis
from django.conf import settings as project
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from connections.connect_links.invitations import create_link
from connections.gateway.schema import PATH
from connections.workflows import runs, waiting
from tests.affiliates import make_affiliate
from tests.ai_models import make_ai_model
from tests.backoffice_users import make_account, make_session
from tests.content import make_blog, make_feature_request, make_message
from tests.factories import make_connection, make_key, make_partner, make_provider, make_tenant
from tests.inbound import make_webhook_event
from tests.operations import document
from tests.sockets import read_head, serve
from tests.webhook_receiver import make_delivery, make_endpoint
from tests.workflow_runs import make_run

pytestmark = pytest.mark.django_db

SWITCHED_OFF = {
    "": [positive_data_acceptance],
    # No worker runs here, and to say so is what the route is for.
    "GET /api/external/system/health": [positive_data_acceptance, not_a_server_error],
}
EXAMPLES = 4
_QUIETLY = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def proxied(settings: Any) -> Iterator[str]:
    """The id of a connection to a provider that is content with everything."""
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    with serve(_accept) as port:
        config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "bearer"}
        yield make_connection(make_provider(environment="development", api_config=config)).pk


def _accept(client: socket.socket) -> None:
    read_head(client)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    client.shutdown(socket.SHUT_WR)
    while client.recv(65536):
        pass


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that does not finish is waited for as long as the query says, and what is answered then is the same."""
    monkeypatch.setattr(waiting, "wait", lambda run_id, seconds, scope: runs.wait(run_id, min(seconds, 0.02), scope))


@pytest.fixture
def ids(settings: Any) -> dict[str, str]:
    """What stands in the paths."""
    settings.SERVICE_API_RATE_LIMIT = settings.ADMIN_API_RATE_LIMIT = 1_000_000
    row = make_connection()
    endpoint = make_endpoint(None)
    account = make_account()
    return {
        "user_id": account.pk,
        "session_id": make_session(account).pk,
        "reference": row.external_api_id,
        "service_id": row.external_api_id,
        "connection_reference": row.pk,
        "connection_id": row.pk,
        "link_id": create_link(row.external_api, {}).pk,
        "key_id": make_key().key.pk,
        "tenant_id": make_tenant().pk,
        "partner_id": make_partner().pk,
        "endpoint_id": endpoint.pk,
        "delivery_id": make_delivery(endpoint).pk,
        "webhook_event_id": make_webhook_event().pk,
        "run_id": make_run().pk,
        "blog_id": make_blog().pk,
        "affiliate_id": make_affiliate().pk,
        "model_id": make_ai_model().pk,
        "feature_request_id": make_feature_request().pk,
        "contact_message_id": make_message().pk,
    }


@pytest.fixture
def _one_connection() -> Iterator[None]:
    """The test's own transaction goes on from one request to the next, as with Django's test client."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.usefixtures("_one_connection")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_as_documented(ids: dict[str, str], proxied: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_wsgi("/api/schema?format=json", WSGIHandler())
    problems: dict[str, str] = {}
    found = [operation.ok() for operation in schema.get_all_operations() if isinstance(operation, Ok)]
    for operation in found:
        named = {name: ids[name] for name in ids if f"{{{name}}}" in operation.path}
        if operation.path == PATH:
            named["connection_id"] = proxied
        cases = operation.as_strategy(generation_mode=mode, path_parameters=named or None)
        try:
            _QUIETLY(given(case=cases)(_ask))()
        except Unsatisfiable:
            # What takes no input has no bad one.
            assert mode is GenerationMode.NEGATIVE
        except BaseExceptionGroup as failure:
            problems[operation.label] = str(failure)
    assert not problems, "\n\n".join(problems.values())[:8000]
    assert len(found) == sum(len(methods) for methods in document()["paths"].values())


def _ask(case: Any) -> None:
    excluded = SWITCHED_OFF.get(case.operation.label, SWITCHED_OFF[""])
    # Reading a secret leaves an event that nothing may undo.
    with nullcontext() if case.method == "GET" else transaction.atomic():
        headers = {"Authorization": f"Bearer {project.ADMIN_API_KEY}"}
        case.call_and_validate(headers=headers, excluded_checks=excluded)
        if case.method != "GET":
            transaction.set_rollback(True)
