"""What the OpenAPI document says of the addresses for providers is what they do."""

from __future__ import annotations

import pytest
from django.test import Client

from connections.webhooks.inbound import receivers
from tests.inbound import send, stripe_body, webhook_provider
from tests.operations import document


@pytest.mark.django_db
def test_both_addresses_are_described() -> None:
    receivers.forget()
    api = webhook_provider()
    paths = document()["paths"]
    for path, described in (
        ("stripe", paths["/api/webhooks/{slug}"]),
        (f"stripe/{api.pk}", paths["/api/webhooks/{slug}/{api_id}"]),
    ):
        assert set(described) == {"get", "post"}
        assert described["post"]["security"] == [{}], "no key is needed"
        for answer, method in (
            (send(Client(), stripe_body(), path=path), "post"),
            (send(Client(), b"{}", path=path, headers={}), "post"),
            (Client().get(f"/api/webhooks/{path}"), "get"),
        ):
            response = described[method]["responses"][str(answer.status_code)]
            assert not answer.content or answer.headers["Content-Type"] in response["content"]
