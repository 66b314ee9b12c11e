"""The blog as everybody sees it: what is published, what a browser may keep, and no script however it is written."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice import blog_html, visit_counting
from external_apis.backoffice.blogs import BODY_AT_MOST, update_blog
from external_apis.backoffice.models import Blog
from tests.content import make_blog
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}

CORPUS = [
    "<script>alert(1)</script>",
    "<scr<script>ipt>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext></mtext><mglyph><svg><mtext><style><path id='</style><img onerror=alert(1) src>'>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href='javascript:alert(1)' onclick=alert(1)>x</a>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<div style='background:url(javascript:alert(1))'>x</div>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml version='1.0'?><img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;&#x61;vascript&colon;alert(1))",
    "[x](%6aavascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "![x](javascript:alert(1))",
    "![x](http://evil.example/pixel.png)",
    "![x](//evil.example/pixel.png)",
    "![x](/admin/logout/)",
    "[x](file:///etc/passwd)",
    "[x](https://ok.example \"a' onmouseover='alert(1)\")",
    '[x](https://ok.example "\\"><img src=x onerror=alert(1)>")',
    '![x" onerror="alert(1)](https://ok.example/a.png)',
    "<javascript:alert(1)>",
    "<https://ok.example/\"onmouseover=\"alert(1)>",
    "`<img src=x onerror=alert(1)>`",
    "```html\"><img src=x onerror=alert(1)>\n<script>alert(1)</script>\n```",
    "    <script>alert(1)</script>",
    "|a|b|\n|-|-|\n|<img src=x onerror=alert(1)>|[x](javascript:alert(1))|",
    "[x]\n\n[x]: javascript:alert(1)",
    "# <img src=x onerror=alert(1)>",
    "> <script>\n> alert(1)\n> </script>",
    "\\<script\\>alert(1)\\</script\\>",
    "{{ settings.SECRET_KEY }}{% include 'x' %}",
]  # fmt: skip


class Look(HTMLParser):
    """What a browser would find on a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name.startswith("on") or name in ("style", "srcdoc", "formaction"):
                self.problems.append(f"{tag} {name}={value}")
            if name in ("href", "src", "action") and urlsplit(value or "").scheme not in (
                "",
                "http",
                "https",
                "mailto",
            ):
                self.problems.append(f"{tag} {name}={value}")
            if tag == "img" and name == "src" and not (value or "").startswith("https://"):
                self.problems.append(f"{tag} {name}={value}")
        if tag in ("script", "iframe", "object", "embed", "form", "base", "svg", "math", "style"):
            self.problems.append(tag)
        if tag == "meta" and dict(attrs).get("http-equiv"):
            self.problems.append("meta http-equiv")

    def values(self, tag: str, name: str) -> list[str]:
        return [value for found, attribute, value in self.attributes if (found, attribute) == (tag, name)]


def published(tenant: Any = None, **fields: Any) -> Blog:
    return make_blog(tenant, status="published", **fields)


# --- no script --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", CORPUS)
def test_no_payload_becomes_more_than_text(client: Client, payload: str) -> None:
    shown = payload.replace("\x01", "").split("\n", maxsplit=1)[0][:80].strip()
    published(slug="post", title=shown, body=f"{payload}\n\nthe end", excerpt=shown, author=shown)
    for path in ("/blog/post", "/blog"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert Look(answer.content.decode()).problems == []
    if "evil.example" in payload and not payload.startswith("!"):
        links = Look(client.get("/blog/post").content.decode()).values("link", "href")
        assert not [link for link in links if "evil" in link]


def test_the_look_finds_what_it_is_to_find() -> None:
    bad = ["<script>", "<img src=x>", "<a href='javascript:1'>", "<p onclick=1>", "<iframe>", "<p style=x>"]
    assert all(Look(page).problems for page in bad)
    assert all(Look(payload).problems for payload in CORPUS[2:5])


def test_either_library_alone_lets_no_script_through() -> None:
    """What the sanitiser gets is harmless already, and what the parser writes is sanitised whatever it is."""
    for payload in CORPUS:
        cleaned = blog_html._CLEANER.clean(payload)
        assert Look(cleaned).problems == [], payload


def test_what_markdown_is_for_stays() -> None:
    page = blog_html.render(
        "# One\n\n*em* **strong** ~~gone~~ `code`\n\n- a\n- b\n\n3. c\n\n> quote\n\n|a|b|\n|-|-|\n|1|2|\n\n"
        "```py\nx < 1\n```\n\n"
        '[link](https://ok.example/?a=1&b=2 "title") <ann@example.com> [home](/contact)\n\n'
        '![alt](https://ok.example/a.png "t")\n\n---\n'
    )
    found = Look(page)
    assert {"h2", "em", "strong", "s", "code", "ul", "li", "ol", "blockquote", "table", "th", "td", "pre", "hr"} <= set(
        found.tags
    )
    assert "h1" not in found.tags, "that is the title"
    assert found.values("a", "href") == ["https://ok.example/?a=1&b=2", "mailto:ann@example.com", "/contact"]
    assert set(found.values("a", "rel")) == {"noopener nofollow"}
    assert (found.values("img", "src"), found.values("img", "alt")) == (["https://ok.example/a.png"], ["alt"])
    assert found.values("ol", "start") == ["3"]
    assert "x &lt; 1" in page


@pytest.mark.parametrize(
    "body",
    [
        "![" * (BODY_AT_MOST // 2),
        "> " * (BODY_AT_MOST // 2),
        "- " * (BODY_AT_MOST // 2),
        "[a]: https://ok.example/" + "x" * (BODY_AT_MOST // 2) + "\n\n" + "[a]" * 10_000,
        "|" * (BODY_AT_MOST // 2) + "\n" + "|-" * (BODY_AT_MOST // 4 - 1) + "\n",
        "".join(" " * (2 * depth) + "- a\n" for depth in range(300)),
    ],
    ids=["images", "quotes", "lists", "references", "table", "indents"],
)
def test_the_worst_bodies_take_bounded_time_and_room(body: str) -> None:
    assert len(body) <= BODY_AT_MOST
    began = time.process_time()
    page = blog_html._render(body)
    assert time.process_time() - began < 8, "two seconds on a machine that has nothing else to do"
    assert len(page) < 10 * BODY_AT_MOST


def test_what_was_rendered_is_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blog_html, "_kept", blog_html._Kept())
    monkeypatch.setattr(blog_html, "_KEPT_CHARACTERS", 800)
    pages = [blog_html.render(f"{number} {'x' * 80}") for number in range(11)]
    assert blog_html.render(f"10 {'x' * 80}") is pages[10], "kept"
    assert blog_html.render(f"0 {'x' * 80}") is not pages[0], "the oldest has gone"
    blog_html.render("y" * 2_000)
    assert blog_html._kept._size == sum(map(len, blog_html._kept._pages.values())) == 0, "one alone is too much"


# --- the page ---------------------------------------------------------------------------------------------------------


def test_a_post(client: Client) -> None:
    published(slug="post", title='Fish & "Chips"', excerpt='About <"fish">', author="Ann", body="Hello *there*")
    answer = client.get("/blog/post")
    page = answer.content.decode()
    found = Look(page)
    assert "<title>Fish &amp; &quot;Chips&quot;</title>" in page
    assert "<em>there</em>" in page
    assert ("meta", "content", 'About <"fish">') in found.attributes
    assert ("link", "href", "http://127.0.0.1:8000/blog/post") in found.attributes
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not {"script-src", "unsafe"} & set(policy.replace("-inline", "").split())
    assert "form-action 'none'" in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert not answer.cookies
    assert "Cookie" not in answer.get("Vary", "")
    head = client.head("/blog/post")
    assert (head.status_code, head.content, head["ETag"]) == (200, b"", answer["ETag"])
    assert client.post("/blog/post").status_code == 405


def test_what_a_browser_has_is_not_sent_again(client: Client) -> None:
    row = published(slug="post")
    first = client.get("/blog/post")
    assert first["Cache-Control"] == "public, no-cache"
    kept = client.get("/blog/post", headers={"If-None-Match": first["ETag"]})
    assert (kept.status_code, kept.content, kept["ETag"]) == (304, b"", first["ETag"])
    update_blog(row, {"title": "Another"})
    changed = client.get("/blog/post", headers={"If-None-Match": first["ETag"]})
    assert (changed.status_code, changed["ETag"] != first["ETag"]) == (200, True)
    update_blog(row, {"status": "draft"})
    assert client.get("/blog/post", headers={"If-None-Match": changed["ETag"]}).status_code == 404


def test_drafts_and_what_is_to_come_are_not_there(client: Client) -> None:
    make_blog(slug="draft", title="Draft")
    published(slug="soon", title="Soon", published_at=(NOW + timedelta(hours=1)).isoformat())
    with time_machine.travel(NOW, tick=False):
        for path in ("/blog/draft", "/blog/soon", "/blog/nothing", "/blog/a%00b", "/blog/a%2Fb", "/blog/" + "a" * 5000):
            assert client.get(path).status_code in (400, 404), path
        assert "Soon" not in client.get("/blog").content.decode()
    with time_machine.travel(NOW + timedelta(hours=1), tick=False):
        assert client.get("/blog/soon").status_code == 200
        page = client.get("/blog").content.decode()
    assert "Soon" in page
    assert "Draft" not in page


def test_posts_of_tenants(client: Client) -> None:
    shop = make_tenant("shop")
    published(slug="same", title="Ours")
    published(shop, slug="same", title="Theirs")
    make_blog(make_tenant("quiet"))
    assert "Ours" in client.get("/blog/same").content.decode()
    assert "Theirs" in client.get("/blog/shop/same").content.decode()
    assert "Theirs" in client.get("/blog/shop/").content.decode()
    assert "Theirs" not in client.get("/blog").content.decode()
    for path in ("/blog/quiet/", "/blog/nobody/", "/blog/nobody/same", "/blog/shop/other"):
        assert client.get(path).status_code == 404, path
    shop.is_active = False
    shop.save()
    for path in ("/blog/shop/same", "/blog/shop/"):
        assert client.get(path).status_code == 404, path


def test_the_list_has_pages_and_a_constant_number_of_queries(client: Client) -> None:
    assert "Nothing has been published yet." in client.get("/blog").content.decode()
    published(slug="first")
    counts = []
    for rows in (1, 25):
        while Blog.objects.count() < rows:
            published()
        with CaptureQueriesContext(connection) as captured:
            page = client.get("/blog").content.decode()
        counts.append(len(captured))
    assert counts == [2, 2]
    assert "?page=2" in page
    assert "/blog/first" not in page
    assert "/blog/first" in client.get("/blog?page=2").content.decode()
    for number in ("0", "99", "x", "-1", "9" * 50):
        assert client.get(f"/blog?page={number}").status_code == 200
    with CaptureQueriesContext(connection) as captured:
        client.get("/blog/first")
    assert len(captured) == 1


def test_visits_are_the_tenants(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.VISIT_COUNTING = True
    monkeypatch.setattr(visit_counting._Recorder, "every_seconds", 3600)
    monkeypatch.setattr(visit_counting, "_recorder", visit_counting._Recorder())
    shop = make_tenant("shop")
    published(shop, slug="post")
    published(slug="post")
    client = Client(headers=BROWSER)
    tag = client.get("/blog/post")["ETag"]
    client.get("/blog/post", headers={"If-None-Match": tag})
    for path in ("/blog/shop/post", "/blog/shop/", "/blog?page=1", "/blog/nothing"):
        client.get(path)
    numbers = visit_counting._recorder._sums.numbers
    assert {(item.tenant, item.name): number for item, number in numbers.items() if item.kind == "path"} == {
        ("", "/blog/post"): 2,
        (shop.pk, "/blog/shop/post"): 1,
        (shop.pk, "/blog/shop/"): 1,
        ("", "/blog"): 1,
    }


def test_addresses_that_are_nearly_right(client: Client) -> None:
    published(make_tenant("shop"), slug="post")
    make_tenant("quiet")
    for path, right in (
        ("/blog/?page=2", "/blog?page=2"),
        ("/blog/shop", "/blog/shop/"),
        ("/contact/", "/contact"),
        ("/contact/shop/", "/contact/shop"),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.get("Location")) == (301, right)
    published(slug="shop", title="About the shop")
    assert "About the shop" in client.get("/blog/shop").content.decode(), "the post itself goes first"
    assert client.get("/blog/quiet").status_code == 404


def test_pages_lead_to_each_other_and_not_to_the_admin(client: Client) -> None:
    published(make_tenant("shop"), slug="post")
    published(slug="post")
    make_tenant("quiet")
    home, shop = {"/blog", "/contact"}, {"/blog/shop/", "/contact/shop"}
    for path, links, status in (
        ("/blog", home, 200),
        ("/blog/post", home, 200),
        ("/contact?sent", home, 200),
        ("/blog/nothing", home, 404),
        ("/contact/nobody", home, 404),
        ("/blog/shop/", shop, 200),
        ("/blog/shop/post", shop, 200),
        ("/contact/shop?sent", shop, 200),
        ("/contact/quiet", {"/contact/quiet"}, 200),
    ):
        answer = client.get(path)
        found = set(Look(answer.content.decode()).values("a", "href"))
        assert answer.status_code == status
        assert found - {"/blog/post", "/blog/shop/post"} == links, path
