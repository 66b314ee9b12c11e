"""What all of the admin's pages have in common: times, names, headings, classes, and what an empty list says."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from config.runtime import CHECKOUT
from tests.admin_pages import addresses, lists, make_rows
from tests.factories import make_user

pytestmark = pytest.mark.django_db

_MONTHS = "Jan|Feb|March|April|May|June|July|Aug|Sept|Oct|Nov|Dec"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(make_user(username="operator", is_superuser=True))
    return client


def _styled(name: str, begin: str = "") -> set[str]:
    """The classes that a stylesheet knows, by its name among the static files; ``begin`` is what a line begins with."""
    path = finders.find(name)
    assert path
    found = re.findall(rf"(?m){begin}\.((?:\\.|[\w-])+)", Path(path).read_text())
    return {re.sub(r"\\(.)", r"\1", name) for name in found}


def test_every_class_of_our_own_pages_is_in_a_stylesheet() -> None:
    """Unfold's holds those classes alone that its own pages use; another one is without effect, and nobody says so."""
    ours = _styled("external_apis/admin.css", "^")
    unfolds = _styled("unfold/css/styles.css")
    assert not ours & unfolds
    visitors = {"connect": _styled("connections/connect.css"), "pages": _styled("backoffice/pages.css")}
    files = [path for top in ("templates", "connections", "external_apis") for path in (CHECKOUT / top).rglob("*.html")]
    files += [path for top in ("connections", "external_apis") for path in (CHECKOUT / top / "admin").glob("*.py")]
    used = set()
    for path in files:
        for value in re.findall(r'class="([^"]*)"', path.read_text()):
            names = set(re.sub(r"{%.*?%}|{{.*?}}", " ", value).split())
            used |= names
            known = visitors.get(path.parent.name, ours | unfolds)
            assert names <= known, (path.name, names - known)
    assert ours <= used, "what nobody uses"


def _text(page: str) -> str:
    """What is read: no tags, no scripts, and no values of inputs."""
    page = re.sub(r"(?s)<(script|style|textarea|pre)\b.*?</\1>", " ", page)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def _crumbs(page: str) -> list[str]:
    (heading,) = re.findall(r"(?s)<h1\b.*?</h1>", page)
    return [text.strip() for text in re.split(r"chevron_right|dock_to_right", _text(heading)) if text.strip()]


def test_pages_of_rows(operator: Client) -> None:
    for address, row in addresses(make_rows()).items():
        answer = operator.get(address)
        assert answer.status_code == 200, address
        page = answer.content.decode()
        text = _text(page)
        assert not re.search(rf"\b({_MONTHS})\b\.? \d", text), address
        # In a table the zone may stand above the column.
        zone = r"( UTC\b.*)?" if "(UTC)" in text else r" UTC\b.*"
        for time in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d\S*(?: \w+)?", text):
            assert re.match(rf"[-\d]+ \d\d:\d\d:\d\d{zone}", time), (address, time)
        if row is not None:
            assert _crumbs(page)[-1] == str(row), address
            if "/change/" not in address:
                assert "<h2" in page, address
        assert not re.search(r">\s*(null|None|none)\s*</(?!option)", page), address


def test_lists_that_are_empty(operator: Client) -> None:
    for address in lists():
        page = operator.get(f"{address}?q=nothing-is-called-so").content.decode()
        title = re.findall(r"<title>\s*(.*?) \|", page)[0]
        assert "Select" not in title or "auth" in address, address  # users and groups are Django's
        assert "Create a new item" not in page, address
        if "Nothing matches" not in page:  # a list that has no search
            assert operator.get(address).context["cl"].result_count, address
    page = operator.get("/admin/connections/webhookevent/").content.decode()
    assert "Nothing yet" in page
    assert "Add webhook event" not in page
    assert "Add webhook endpoint" in operator.get("/admin/connections/webhookendpoint/").content.decode()
