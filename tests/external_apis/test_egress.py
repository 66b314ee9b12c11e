"""Where connections may go: addresses, spellings, the allow list, and names that change their mind."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_apis import egress
from external_apis.egress import Allowance, Policy, current_policy
from external_apis.errors import CallTimeout, EgressRefused
from external_apis.transport import Origin, Transport

NOBODY = Policy()


def policy(*entries: str, proxy: str = "") -> Policy:
    return Policy(tuple(map(Allowance.parse, entries)), proxy)


FORBIDDEN = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "2001:db8::1", "3fff::1", "fec0::1",
    "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:169.254.169.254", "2002:7f00:1::", "2002:808:808::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_outside_the_public_internet_is_refused(address: str) -> None:
    with pytest.raises(EgressRefused, match="refused"):
        NOBODY.check_address(address, ipaddress.ip_address(address), 443)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"])
def test_a_public_address_may_be_called(address: str) -> None:
    NOBODY.check_address(address, ipaddress.ip_address(address), 443)


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_that_python_calls_private_slips_through(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        with pytest.raises(EgressRefused):
            NOBODY.check_address("host", address, 80)


@given(st.ip_addresses(v=4))
def test_no_ipv6_form_carries_an_ipv4_address_through(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [
        0xFFFF << 32 | number,
        number,
        0x2002 << 112 | number << 80,
        0x2001 << 112 | (number ^ 0xFFFFFFFF),
        0x64FF9B << 96 | number,
        0x64FF9B0001 << 80 | number,
    ]
    for form in forms:
        with pytest.raises(EgressRefused):
            NOBODY.check_address("host", ipaddress.IPv6Address(form), 80)


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "127.1", "0177.0.0.1", "0x7f000001", "127.0.0.01", "1.2.3.4.5", "0", "", ".", "..",
             "fe80::1%eth0", "[fe80::1%25lo]"]
)  # fmt: skip
def test_an_odd_spelling_is_refused_before_it_is_resolved(host: str) -> None:
    with pytest.raises(EgressRefused):
        policy("127.0.0.1", "0.0.0.0/0").resolve(host, 80)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "::1"])
def test_a_name_is_judged_by_its_addresses(host: str) -> None:
    with pytest.raises(EgressRefused, match=r"loopback|local"):
        NOBODY.resolve(host, 80)


def test_the_allow_list_names_hosts_ports_and_networks() -> None:
    loopback = ipaddress.ip_address("127.0.0.1")
    for entry in ("127.0.0.1", "127.0.0.1:8001", "127.0.0.0/8", "box.test", "box.test:8001", "BOX.test."):
        policy(entry).check_address("Box.Test.", loopback, 8001)
    for entry in ("127.0.0.1:8002", "127.0.0.2", "10.0.0.0/8", "other.test", "box.test:80", "ox.test"):
        with pytest.raises(EgressRefused):
            policy(entry).check_address("box.test", loopback, 8001)


def test_the_allow_list_reads_ipv6() -> None:
    for entry in ("::1", "[::1]", "[::1]:80", "::/64"):
        policy(entry).check_address("[::1]", ipaddress.ip_address("::1"), 80)
    with pytest.raises(EgressRefused):
        policy("[::1]:81").check_address("[::1]", ipaddress.ip_address("::1"), 80)


@pytest.mark.parametrize("entry", ["", "http://a", "a:b", "a:99999", "a:0", "user@host", "a b", "10.0.0.0/99"])
def test_a_malformed_entry_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="EGRESS_ALLOW"):
        Allowance.parse(entry)


def test_an_allowed_nat64_prefix_does_not_open_what_lies_behind_it() -> None:
    allowing = policy("64:ff9b::/96")
    allowing.check_address("a.test", ipaddress.ip_address("64:ff9b::8.8.8.8"), 443)
    with pytest.raises(EgressRefused, match="private"):
        allowing.check_address("a.test", ipaddress.ip_address("64:ff9b::10.0.0.1"), 443)


def test_only_the_permitted_addresses_of_a_name_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "10.0.0.1", "93.184.216.34", "127.0.0.1")
    assert [entry[4][0] for entry in NOBODY.resolve("mixed.test", 443)] == ["93.184.216.34"]


def test_a_refusal_names_host_and_reason() -> None:
    with pytest.raises(EgressRefused) as caught:
        NOBODY.check_address("metadata.test", ipaddress.ip_address("169.254.169.254"), 80)
    assert (
        caught.value.message
        == "metadata.test:80 is refused: it leads to a link-local or metadata address that EGRESS_ALLOW does not name."
    )


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "api.localhost", "metadata.google.internal", "0x7f.1"]
)
def test_with_a_proxy_literal_addresses_and_local_names_are_still_refused(host: str) -> None:
    with pytest.raises(EgressRefused):
        policy(proxy="http://proxy.test:3128").check_name(host, 80)


def test_with_a_proxy_an_allowed_name_passes() -> None:
    policy("vault.internal", proxy="http://proxy.test:3128").check_name("vault.internal", 80)
    policy(proxy="http://proxy.test:3128").check_name("api.example.com", 443)


def test_the_policy_follows_the_settings_and_hides_the_proxys_password(settings: Any) -> None:
    settings.EGRESS_ALLOW, settings.EGRESS_PROXY = ["10.0.0.0/8"], "http://user:hunter22@proxy.test:3128"
    assert len(current_policy().allow) == 1
    assert "hunter22" not in repr(current_policy())


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name resolve to these addresses."""

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_name_server_that_hangs_costs_a_caller_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def hang(host: str, port: int, **_: Any) -> list[Any]:
        is_over.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        NOBODY.resolve("hangs.test", 443, 0.1)
    with pytest.raises(CallTimeout, match="connected to in time") as caught:
        Transport(NOBODY).send(Origin("https", "hangs.test", 443), "GET", "/", {}, None, deadline=started + 0.4)
    assert not caught.value.may_have_happened
    assert time.monotonic() - started < 1.5
    is_over.set()


def test_look_ups_that_hang_are_bounded_in_number_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(egress, "_lookups", threading.BoundedSemaphore(2))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: is_over.wait(10) and [])
    for _ in range(4):
        with pytest.raises(TimeoutError):
            egress.look_up("hangs.test", 443, 0.05)
    assert sum(thread.name == "resolve" for thread in threading.enumerate()) == 2
    is_over.set()
    monkeypatch.undo()
    assert egress.look_up("localhost", 443, 5)
