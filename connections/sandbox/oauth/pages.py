"""The pages that the user of a provider sees: plain HTML that works without JavaScript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import urlencode

from connections.sandbox.answers import Answer
from connections.sandbox.request import Request, parse_pairs

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:3rem auto;padding:0 1rem;color:#222}"
    "form{margin-top:1rem}label{display:block}input[type=text]{font:inherit;padding:.4rem;width:100%}"
    "button{font:inherit;margin:1rem .5rem 0 0;padding:.5rem 1.2rem}"
)


def answer_page(title: str, body: str, status: int = 200) -> Answer:
    """A page; ``body`` is HTML already."""
    html = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )
    return Answer(status, html.encode(), _HEADERS, "text/html; charset=utf-8")


def answer_problem(message: str) -> Answer:
    """Where a redirect would be unsafe, the user is told instead (RFC 6749, section 4.1.2.1)."""
    return answer_page("This request cannot be answered", f"<p>{escape(message)}</p>", 400)


def answer_redirect(uri: str, parameters: Mapping[str, str]) -> Answer:
    """Back to the client, its own query parameters kept."""
    mark = "&" if "?" in uri else "?"
    location = f"{uri}{mark}{urlencode({name: value for name, value in parameters.items() if value})}"
    return Answer(302, headers={"Location": location, **_HEADERS})


def ask_consent(action: str, who: str, scopes: Iterable[str], hidden: Mapping[str, str]) -> Answer:
    """The page that asks whether a client may; each scope can be left out."""
    fields = "".join(f"<input type=hidden name={name} value='{escape(value)}'>" for name, value in hidden.items())
    boxes = "".join(
        f"<label><input type=checkbox name=scope value='{escape(scope)}' checked> {escape(scope)}</label>"
        for scope in scopes
    )
    return answer_page(
        "Allow access?",
        f"<p><b>{escape(who)}</b> asks for access to your account at the sandbox.</p>"
        f"<form method=post action='{action}'>{fields}{boxes}"
        "<button name=decision value=approve>Allow</button><button name=decision value=deny>Deny</button></form>",
    )


def read_form(request: Request) -> tuple[dict[str, str], list[str]]:
    """The fields of a posted page, and the scopes that were left ticked."""
    pairs = parse_pairs(request.body.decode("utf-8", "replace"))
    return dict(pairs), [value for name, value in pairs if name == "scope"]
