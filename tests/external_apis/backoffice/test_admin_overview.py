"""The overview on the admin's first page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from external_apis.backoffice.overview_sums import add_numbers
from tests.factories import make_tenant, make_user

pytestmark = pytest.mark.django_db


def page_of(**fields: Any) -> str:
    client = Client()
    client.force_login(make_user(**fields))
    return re.sub(r"\s+", " ", client.get("/admin/").content.decode())


def test_whoever_may_see_statistics_sees_their_own(settings: Any) -> None:
    mine, now = make_tenant(), datetime.now(UTC)
    add_numbers({(mine.pk, now, "calls"): 11, (None, now, "calls"): 4000, (None, now, "revenue:EUR"): 30 * 86_400 * 7})
    seen = {"permissions": ["backoffice.view_overviewsum"]}
    everything, own = page_of(**seen), page_of(tenant=mine, **seen)
    assert re.search(r">Calls</td> <td [^>]*>4011</td> <td [^>]*>0</td>", everything)
    assert re.search(r">Revenue \(EUR, minor unit\)</td> <td [^>]*>7</td>", everything)
    assert re.search(r">Calls</td> <td [^>]*>11</td>", own)
    assert "Revenue" not in own
    assert "The last 30 days" not in page_of()
    settings.BACKOFFICE_ENABLED = False
    assert "The last 30 days" not in page_of(**seen)
