"""Renewals that silently stop are told: in the health answer, and on the admin's first page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from connections.models import ExternalApiConnection, Grant
from connections.oauth.sweep import sweep
from external_apis import health, heartbeats
from tests.factories import MANAGER, make_user
from tests.grants import make_granted
from tests.rest import RestClient, signed_in
from tests.token_server import http, token_server

pytestmark = pytest.mark.django_db(transaction=True)


def leave_due(row: ExternalApiConnection, minutes: float) -> None:
    Grant.objects.filter(pk=row.pk).update(due_at=timezone.now() - timedelta(minutes=minutes))


def told() -> tuple[int, str, str]:
    for kind in heartbeats.LIVES_SECONDS:
        heartbeats.note(kind)
    answer = RestClient().get("/api/external/system/health")
    data = answer.json()["data"]
    return answer.status_code, data["status"], data["checks"]["renewals"]["status"]


def first_page(*permissions: str) -> str:
    return str(signed_in(make_user(permissions=permissions)).get("/admin/").content.decode())


def test_a_grant_that_stays_due_is_told_until_a_sweep_runs(settings: Any, tmp_path: Any) -> None:
    settings.EGRESS_ALLOW, settings.SPOOL_DIR = ["127.0.0.1"], str(tmp_path / "spool")
    with token_server() as server:
        row = make_granted(server)
        leave_due(row, 9)
        assert told() == (200, "ok", "ok")
        leave_due(row, 25)
        said = "tokens are not being renewed: the oldest has been due for 25 minutes"
        assert told() == (200, "degraded", said)
        assert f"Attention: {said}." in first_page(*MANAGER)
        assert said not in first_page("external_apis.view_externalapi")
        # A renewal that fails has had its turn.
        server.answers = [http(500, {})]
        sweep()
        assert told() == (200, "ok", "ok")
        assert "Attention" not in first_page(*MANAGER)


def test_sweeps_that_are_rare_are_waited_for_longer(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    with token_server() as server:
        row = make_granted(server)
    settings.REFRESH_EVERY_SECONDS = 1200
    leave_due(row, 59)
    assert health.check_upkeep()[0].is_ok
    leave_due(row, 61)
    assert not health.check_upkeep()[0].is_ok


def test_without_the_database_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    down = [health.Check("database", "unavailable", 1.0)]
    monkeypatch.setattr(health, "check_services", lambda: down)
    (renewals,) = [check for check in health.check_all() if check.name == "renewals"]
    assert (renewals.status, renewals.is_vital) == ("unknown", False)
