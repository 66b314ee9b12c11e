"""Limits of callers of our own APIs: smooth, shared by all processes, and never gone with Valkey."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from external_apis import throttling, valkey
from external_apis.errors import RateLimited
from external_apis.ids import new_id
from external_apis.key_holder import ADMIN, KeyHolder
from external_apis.rate_limit import LocalLimiter
from external_apis.throttling import charge_address, charge_key, charge_tenant
from tests.sockets import serve


def holder(rate_limit: int | None = None) -> KeyHolder:
    return KeyHolder(new_id("apk"), "x", rate_limit=rate_limit)


@pytest.fixture(autouse=True)
def _meter_of_its_own() -> Iterator[None]:
    throttling._meter.cache_clear()
    yield
    throttling._meter.cache_clear()


def test_a_keys_own_limit_goes_before_the_usual_one(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 77
    assert charge_key(holder()).limit == 77
    assert charge_key(holder(5)).limit == 5


def test_all_of_a_limit_may_come_at_once_and_then_one_after_the_other() -> None:
    key = holder(3600)
    quotas = [charge_key(key) for _ in range(3600)]
    assert all(quota.is_allowed for quota in quotas)
    refused = next(quota for quota in (charge_key(key) for _ in range(50)) if not quota.is_allowed)
    # One slot a second: smooth, and no waiting for a full hour.
    assert 0 < refused.retry_after_seconds <= 1
    time.sleep(refused.retry_after_seconds)
    assert charge_key(key).is_allowed


def test_what_a_client_is_told() -> None:
    key = holder(10)
    first = charge_key(key)
    assert (first.is_allowed, first.limit, first.remaining) == (True, 10, 9)
    assert first.headers == {
        "X-RateLimit-Limit": "10",
        "X-RateLimit-Remaining": "9",
        "X-RateLimit-Reset": str(first.reset_at),
    }
    assert 355 < first.reset_at - time.time() <= 361
    first.require()
    for _ in range(9):
        charge_key(key)
    refused = charge_key(key)
    assert (refused.is_allowed, refused.remaining) == (False, 0)
    assert 355 < int(refused.headers["Retry-After"]) <= 360
    with pytest.raises(RateLimited) as caught:
        refused.require()
    assert caught.value.message == "Rate limit exceeded. Please retry after the reset time."
    reset_at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(refused.reset_at))
    assert caught.value.details["resetAt"] == reset_at
    assert refused.reset_at == pytest.approx(time.time() + 360, abs=2)


def test_keys_addresses_and_tenants_are_charged_apart(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 1
    name = new_id("x")
    assert charge_key(KeyHolder(name, "x")).is_allowed
    assert charge_address(name).is_allowed
    assert charge_tenant(name, 1).is_allowed
    assert not charge_key(KeyHolder(name, "x")).is_allowed
    assert not charge_address(name).is_allowed
    assert not charge_tenant(name, 1).is_allowed


def test_ipv6_addresses_of_one_network_share_a_limit(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 1
    network = f"2001:db8:{int(time.time()) % 65536:x}"
    assert charge_address(f"{network}:1::1").is_allowed
    assert not charge_address(f"{network}:1:ffff::2").is_allowed
    assert charge_address(f"{network}:2::1").is_allowed
    assert [charge_address(address).is_allowed for address in ("192.0.2.77", "192.0.2.78")] == [True, True]


def test_nobody_finds_an_address_by_trying_all_without_the_projects_secret(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 1
    name = new_id("x")
    assert [charge_address(name).is_allowed for _ in range(2)] == [True, False]
    settings.SECRET_KEY = "another secret of the tests"
    assert charge_address(name).is_allowed


def test_a_tenants_limit_is_by_the_minute() -> None:
    name = new_id("ten")
    assert sum(charge_tenant(name, 100).is_allowed for _ in range(102)) in (100, 101)
    assert charge_tenant(name, 100).retry_after_seconds <= 0.6


_CHARGE = """
import sys, django
django.setup()
from external_apis.key_holder import KeyHolder
from external_apis.throttling import charge_key
print(sum(charge_key(KeyHolder(sys.argv[1], "x", rate_limit=30)).is_allowed for _ in range(20)))
"""


def test_processes_share_a_limit() -> None:
    key_id = new_id("apk")
    charging = [
        subprocess.Popen([sys.executable, "-c", _CHARGE, key_id], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert sum(int(process.communicate()[0]) for process in charging) == 30


def test_threads_never_get_more_than_the_limit() -> None:
    key = holder(40)
    allowed: list[bool] = []

    def charge() -> None:
        allowed.extend(charge_key(key).is_allowed for _ in range(20))

    threads = [threading.Thread(target=charge) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 40


@pytest.mark.django_db
def test_a_decision_takes_no_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        charge_key(ADMIN)


def test_a_restarted_valkey_forgets_the_script_and_is_taught_again() -> None:
    key = holder(10)
    charge_key(key)
    valkey.client().script_flush()
    assert charge_key(key).remaining == 8


class TestWithoutValkey:
    def test_a_share_of_each_limit_is_left(self, settings: Any) -> None:
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        key = holder(40)
        quotas = [charge_key(key) for _ in range(40)]
        assert sum(quota.is_allowed for quota in quotas) == 40 // LocalLimiter.SHARE
        assert quotas[0].limit == 40
        refused = quotas[-1]
        assert refused.retry_after_seconds > 0

    def test_a_hanging_valkey_delays_one_request(self, settings: Any) -> None:
        with serve(lambda client: time.sleep(5)) as port:
            settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
            key = holder(1000)
            began = time.monotonic()
            assert charge_key(key).is_allowed
            assert time.monotonic() - began < 1.5
            began = time.monotonic()
            assert all(charge_key(key).is_allowed for _ in range(50))
            assert time.monotonic() - began < 0.4

    def test_it_is_asked_again_when_it_is_back(self, settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(throttling, "_ASK_AGAIN_SECONDS", 0.2)
        there = settings.REDIS_URL
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        key = holder(1000)
        assert charge_key(key).remaining < 250
        settings.REDIS_URL = there
        time.sleep(0.25)
        assert charge_key(key).remaining == 999
        assert charge_key(key).remaining == 998
