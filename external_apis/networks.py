"""Whom an address stands for when requests and failures are counted."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address

__all__ = ["counted_as"]

_PREFIX_LENGTH = 64
"""What one subscriber has at the least (RFC 6177): within it anybody takes as many addresses as there are seconds."""


def counted_as(address: str | None) -> str | None:
    """Return an IPv6 address's network of 64 bits, such as ``2001:db8::/64``; whatever else is given stays itself."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return address
    return str(IPv6Network((int(parsed), _PREFIX_LENGTH), strict=False)) if isinstance(parsed, IPv6Address) else address
