"""The egress guard: which hosts and addresses the product may connect to (`external_apis.transport` connects).

A host name is resolved, each of its addresses is checked, and the socket is connected to a checked address, all in one
step at connect time: an answer of the DNS that changes between check and connect changes nothing. Private, loopback,
link-local, metadata, shared (CGNAT), multicast, reserved and unspecified addresses are refused, and so are the IPv6
forms that carry an IPv4 address, unless ``EGRESS_ALLOW`` names them. The networks are those of the IANA special-purpose
address registries (RFC 6890 and its updates).

With ``EGRESS_PROXY`` the proxy resolves names, so only literal addresses and local names can be checked here: such a
proxy has to carry the rules for names itself. Proxies and passwords from the environment or from netrc are never read.
"""

from __future__ import annotations

import queue
import re
import socket
import threading
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from time import monotonic
from typing import Any

from django.conf import settings

from external_apis.errors import EgressRefused

__all__ = ["Allowance", "Policy", "current_policy", "look_up"]

_FORBIDDEN_V4 = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "metadata"),  # Azure's wire server, the one metadata address in public space
        ("169.254.0.0/16", "link-local or metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")  # whatever lies outside is refused: loopback, ULA, link-local, multicast, the rest
_FORBIDDEN_V6 = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001:db8::/32", "documentation"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
    )
)
_NAT64 = tuple(IPv6Network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")
_LOOPBACK = IPv4Address("127.0.0.1")

_RESOLUTION_SECONDS = 10.0
# A name server that hangs holds a thread for as long as the system resolver's own patience lasts.
_lookups = threading.BoundedSemaphore(64)

_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
_LOCAL_NAME = re.compile(r"(.*\.)?(localhost|internal|local|localdomain|home\.arpa)")
_NOT_NAMED = "that EGRESS_ALLOW does not name"

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Allowance:
    """One entry of ``EGRESS_ALLOW``: a host name, an address or a network, each with or without a port."""

    host: str
    network: IPv4Network | IPv6Network | None
    port: int | None

    @classmethod
    def parse(cls, entry: str) -> Allowance:
        """Read ``host``, ``host:port``, ``10.0.0.0/8``, ``10.0.0.7:8080``, ``fd00::/8`` or ``[fd00::1]:8080``.

        Raises ValueError for anything else.
        """
        try:
            return cls("", ip_network(entry.strip("[]")), None)
        except ValueError:
            pass
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@\s]+)(?::([0-9]{1,5}))?", entry)
        if match is None or (match[2] and not 0 < int(match[2]) < 65536):
            raise ValueError(f"EGRESS_ALLOW: {entry!r} is no host, host:port or CIDR")
        host, port = match[1].strip("[]").rstrip(".").lower(), int(match[2]) if match[2] else None
        try:
            return cls("", ip_network(host), port)
        except ValueError:
            return cls(host, None, port)

    def names(self, host: str, address: Address | None, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if self.network is None:
            return self.host == host
        return address is not None and address in self.network


@dataclass(frozen=True, slots=True)
class Policy:
    """Where connections may go, and by which way."""

    allow: tuple[Allowance, ...] = ()
    proxy: str = ""
    ca_file: str = ""

    def __repr__(self) -> str:  # the proxy's URL may hold its password
        return f"Policy(allow={len(self.allow)} entries, proxy={bool(self.proxy)})"

    def check_name(self, host: str, port: int) -> None:
        """Raise `EgressRefused` for a host that is refused before anything is resolved.

        These are empty names, zones, numbers that some resolvers read as an address (``0x7f.1``, ``2130706433``,
        ``127.1``) and, where a proxy resolves, literal addresses and names of the local network.
        """
        name = host.strip("[]").rstrip(".").lower()
        if not name or "%" in name:
            raise EgressRefused(f"{host or 'An empty host'} is refused: not a plain host name or address.")
        address = _literal(name)
        if address is None and _NUMERIC.fullmatch(name):
            raise EgressRefused(f"{host} is refused: an odd spelling of an address.")
        if not self.proxy:
            return
        if address is not None:
            self.check_address(name, address, port)
        elif _LOCAL_NAME.fullmatch(name) and not self._is_allowed(name, None, port):
            raise EgressRefused(f"{host} is refused: a name of the local network {_NOT_NAMED}.")

    def check_address(self, host: str, address: Address, port: int) -> None:
        """Raise `EgressRefused`, which names host, port and reason, unless the address may be connected to."""
        name = host.strip("[]").rstrip(".").lower()
        reason = _objection(address)
        if reason and not self._is_allowed(name, address, port):
            raise EgressRefused(f"{host}:{port} is refused: it leads to a {reason} address {_NOT_NAMED}.")
        # An allowed NAT64 prefix opens the way to the public Internet, not to what lies behind the translator.
        inner = _embedded(address)
        if inner is not None and not self._is_allowed(name, inner, port) and (reason := _objection(inner)):
            raise EgressRefused(f"{host}:{port} is refused: it leads to a {reason} address {_NOT_NAMED}.")

    def check_host(self, host: str, port: int) -> None:
        """Raise `EgressRefused` for a host to which nothing can lead: nothing is resolved here.

        These are those of `check_name`, forbidden addresses, and names that only a local network has, where
        ``EGRESS_ALLOW`` names neither them nor any address that they might lead to.
        """
        self.check_name(host, port)
        name = host.strip("[]").rstrip(".").lower()
        address = _LOOPBACK if name.rpartition(".")[2] == "localhost" else _literal(name)
        if address is not None:
            self.check_address(host, address, port)
        elif ("." not in name or _LOCAL_NAME.fullmatch(name)) and not (
            self._is_allowed(name, None, port) or any(entry.network for entry in self.allow)
        ):
            raise EgressRefused(f"{host} is refused: a name of the local network {_NOT_NAMED}.")

    def resolve(self, host: str, port: int, seconds: float = _RESOLUTION_SECONDS) -> list[Any]:
        """Return the `socket.getaddrinfo` entries of the host that may be connected to, at least one.

        Raises `EgressRefused` when every address is refused, socket.gaierror when there is none, and TimeoutError when
        the name servers take longer than ``seconds``, which are never more than 10.
        """
        self.check_name(host, port)
        permitted, refusal = [], None
        for entry in look_up(host.strip("[]"), port, min(seconds, _RESOLUTION_SECONDS)):
            try:
                self.check_address(host, ip_address(entry[4][0]), port)
            except EgressRefused as error:
                refusal = error
            else:
                permitted.append(entry)
        if not permitted and refusal is not None:
            raise refusal
        return permitted

    def _is_allowed(self, host: str, address: Address | None, port: int) -> bool:
        return any(entry.names(host, address, port) for entry in self.allow)


def look_up(host: str, port: int, seconds: float) -> list[Any]:
    """`socket.getaddrinfo` within a time-out, which the system's resolver does not take; raises TimeoutError."""
    if _literal(host) is not None:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    until = monotonic() + seconds
    if not _lookups.acquire(timeout=seconds):
        raise TimeoutError("too many names are being resolved")
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_look_up, args=(host, port, answers, _lookups), name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(until - monotonic(), 0))
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(answer, BaseException):
        raise answer
    found: list[Any] = answer
    return found


def _look_up(host: str, port: int, answers: queue.SimpleQueue[Any], slots: threading.BoundedSemaphore) -> None:
    try:
        answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, ValueError) as error:
        answers.put(error)
    finally:
        slots.release()


def current_policy() -> Policy:
    """Return the policy of the settings ``EGRESS_ALLOW``, ``EGRESS_PROXY`` and ``EGRESS_CA_FILE``."""
    return _build_policy(tuple(settings.EGRESS_ALLOW), settings.EGRESS_PROXY, settings.EGRESS_CA_FILE)


@lru_cache(maxsize=16)
def _build_policy(allow: tuple[str, ...], proxy: str, ca_file: str) -> Policy:
    return Policy(tuple(map(Allowance.parse, allow)), proxy, ca_file)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address inside an IPv6 one: mapped, compatible, 6to4, Teredo or NAT64 (RFC 6052, 8215)."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if (address in _COMPATIBLE and int(address) > 1) or any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _objection(address: Address) -> str:
    """Return what is wrong with the address, or nothing for one of the public Internet."""
    if isinstance(address, IPv4Address):
        return next((reason for network, reason in _FORBIDDEN_V4 if address in network), "")
    if address not in _GLOBAL_V6:
        return "local, mapped or translated"
    return next((reason for network, reason in _FORBIDDEN_V6 if address in network), "")
