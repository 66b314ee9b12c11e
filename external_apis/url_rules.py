"""What a URL in a configuration must look like."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def base_url_problem(url: str, *, https_only: bool, loopback_may_be_http: bool = False) -> str | None:
    """Say what is wrong with a URL, or return None.

    ``https_only`` refuses plain http, but on the loopback where ``loopback_may_be_http``. The text never quotes the
    URL, which could hold a credential.
    """
    if any(character.isspace() or ord(character) < 33 or character == "\\" for character in url):
        return "holds white space, a backslash or a control character"
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        return "is not an http or https URL with a host"
    if parts.username is not None or parts.password is not None:
        return "may not hold a user name or password"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "may not hold a query or a fragment"
    if parts.scheme == "http" and https_only and not (loopback_may_be_http and _is_loopback(parts.hostname)):
        return "uses http; a production provider needs https"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
