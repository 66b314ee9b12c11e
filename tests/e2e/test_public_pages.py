"""The blog, the contact form and the admin's preview on a phone, light and dark, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as project
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from external_apis.backoffice.models import ContactMessage
from tests.content import make_blog
from tests.factories import make_user

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BODY = f"""# A heading with `code`

{"unbroken" * 20} and [a link](https://example.com/{"path" * 30})

| Country | Authentication | Connection | Configuration |
| - | - | - | - |
| Liechtenstein | authentication | connection | configuration |

```
{"a long line of code " * 10}
```

> "quoted"
"""


@pytest.fixture
def phone(browser: Browser, live_server: Any) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", base_url=live_server.url, has_touch=True
    )
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def test_a_post_and_its_preview_on_a_dark_phone(phone: Page, live_server: Any) -> None:
    post = make_blog(slug="post", title="Post", body=BODY, status="published", author="Ann")
    client = Client()
    client.force_login(make_user(is_superuser=True))
    name = project.SESSION_COOKIE_NAME
    phone.goto("/blog/post")
    phone.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])
    shown: dict[str, tuple[Any, str]] = {}
    for address in ("/blog/post", f"/admin/backoffice/blog/{post.pk}/preview/"):
        phone.goto(address)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, address
        assert _contrast(phone, ".prose p") > 7, address
        assert _contrast(phone, ".prose blockquote") > 4.5, address
        lines = phone.locator(".prose td").first.evaluate(
            "cell => cell.clientHeight / parseFloat(getComputedStyle(cell).lineHeight)"
        )
        assert lines < 2, "a word of a table stays whole"
        before = phone.locator(".prose h2 code").evaluate("code => getComputedStyle(code, '::before').content")
        assert before == "none", "no backticks around code"
        shown[address] = phone.locator("article").bounding_box() or {}, phone.locator("article").inner_html()
    public, preview = shown.values()
    assert public[1] == preview[1]
    assert [public[0].get(side) for side in ("width", "height")] == [
        preview[0].get(side) for side in ("width", "height")
    ]
    phone.get_by_role("link", name="Back to the form").click()
    expect(phone.locator("[name=body]")).to_have_value(re.compile("A heading"))


def test_a_message_from_a_phone_with_as_much_as_its_field_takes(phone: Page) -> None:
    phone.goto("/blog")
    phone.get_by_role("link", name="Contact").click()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.fill("[name=name]", "Ann")
    phone.fill("[name=email]", "ann@example.com")
    text = "line\n" * 999 + "lines"
    phone.fill("[name=message]", text)
    phone.get_by_role("button", name="Send").click()
    expect(phone.get_by_role("heading", name="Thank you")).to_be_visible()
    assert ContactMessage.objects.get().message == text
    phone.get_by_role("link", name="Blog").click()
    expect(phone.get_by_text("Nothing has been published yet.")).to_be_visible()


def _contrast(page: Page, selector: str) -> float:
    """The contrast (WCAG 2.2) of a text with the page behind it."""
    ink, paper = (
        _luminance(page.locator(place).first.evaluate(f"node => getComputedStyle(node).{style}"))
        for place, style in ((selector, "color"), ("body", "backgroundColor"))
    )
    return (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
