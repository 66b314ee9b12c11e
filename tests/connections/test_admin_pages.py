"""What all of the admin's pages have in common: times, names, headings, classes, and what an empty list says."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from tests.admin_pages import addresses, make_rows
from tests.factories import make_user

pytestmark = pytest.mark.django_db

_MONTHS = "Jan|Feb|March|April|May|June|July|Aug|Sept|Oct|Nov|Dec"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(make_user(username="operator", is_superuser=True))
    return client


def _text(page: str) -> str:
    """What is read: no tags, no scripts, and no values of inputs."""
    page = re.sub(r"(?s)<(script|style|textarea|pre)\b.*?</\1>", " ", page)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_pages(operator: Client) -> None:
    for address in addresses(make_rows()):
        answer = operator.get(address)
        assert answer.status_code == 200, address
        text = _text(answer.content.decode())
        assert not re.search(rf"\b({_MONTHS})\b\.? \d", text), address
        # In a table the zone may stand above the column.
        zone = r"( UTC\b.*)?" if "(UTC)" in text else r" UTC\b.*"
        for time in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d\S*(?: \w+)?", text):
            assert re.match(rf"[-\d]+ \d\d:\d\d:\d\d{zone}", time), (address, time)
