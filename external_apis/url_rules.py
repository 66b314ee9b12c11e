"""What a URL in a configuration must look like."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote, urlsplit

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_LONGEST_HOST = 253


def base_url_problem(url: str, *, https_only: bool, loopback_may_be_http: bool = False) -> str | None:
    """Say what is wrong with a URL, or return None.

    ``https_only`` refuses plain http, but on the loopback where ``loopback_may_be_http``. The text never quotes the
    URL, which could hold a credential.
    """
    if any(
        character.isspace() or ord(character) < 33 or character in "\\\x7f" or "\ud800" <= character <= "\udfff"
        for character in url
    ):
        return "holds white space, a backslash or a control character"
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        return "is not an http or https URL with a host"
    if not (_is_ipv6(parts.hostname) if "[" in parts.netloc else _is_host_name(parts.hostname)):
        return "has a host that is neither a host name (an international one in its xn-- form) nor an IP address"
    if parts.username is not None or parts.password is not None:
        return "may not hold a user name or password"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "may not hold a query or a fragment"
    # Decoded twice, as a server behind a proxy may; clients resolve such segments, each in its own way.
    if {".", ".."} & set(re.split(r"[/\\]", unquote(unquote(parts.path)))):
        return "may not hold a '.' or '..' segment"
    if parts.scheme == "http" and https_only and not (loopback_may_be_http and _is_loopback(parts.hostname)):
        return "uses http, and https is needed in production"
    return None


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _is_host_name(host: str) -> bool:
    return len(host) <= _LONGEST_HOST and all(_LABEL.fullmatch(label) for label in host.split("."))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
