"""`refresh_token` and `ensure_fresh` against a token endpoint over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from connections.models import GrantState
from connections.oauth import refresh
from tests.grants import grant_of, kinds, make_granted, secrets_of
from tests.token_server import TokenServer, token_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(settings: Any, tmp_path: Any) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    with token_server() as started:
        yield started


def test_a_refresh_stores_what_the_provider_gave(server: TokenServer) -> None:
    row = make_granted(server)
    before = secrets_of(row)
    renewed = refresh.refresh_token(row.pk)
    after = secrets_of(row)
    assert renewed.credential.secrets["access_token"] == after["access_token"] != before["access_token"]
    assert after["refresh_token"] != before["refresh_token"]
    grant = grant_of(row)
    assert (grant.state, grant.rotates, grant.failures, grant.leased_until) == (GrantState.GOOD, True, 0, None)
    assert grant.due_at is not None
    assert timezone.now() + timedelta(seconds=2800) < grant.due_at < timezone.now() + timedelta(seconds=3300)
    assert kinds(row) == ["refreshed"]
