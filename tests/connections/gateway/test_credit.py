"""Slots of a key's limit that are bought ahead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import monotonic

import pytest

from connections.gateway import credit
from external_apis import throttling
from external_apis.authentication import KeyHolder
from external_apis.ids import new_id


def holder(rate_limit: int) -> KeyHolder:
    return KeyHolder(new_id("apk"), "of the tests", rate_limit=rate_limit)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was bought in each round trip."""
    bought: list[int] = []
    charge = throttling.charge_key

    def watch(asker: KeyHolder, requests: int = 1) -> throttling.Quota:
        bought.append(requests)
        return charge(asker, requests)

    monkeypatch.setattr(throttling, "charge_key", watch)
    return bought


def test_who_asks_often_buys_more(trips: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asker, now = holder(10_000), monotonic()  # of which one comes back in a third of a second
    monkeypatch.setattr(credit, "monotonic", lambda: now)
    remaining = [credit.charge(asker).remaining for _ in range(100)]
    assert trips == [1, 2, 4, 8, 16, 32, 32, 32][: len(trips)]
    assert len(trips) < 9
    assert all(after <= before + 1 for before, after in pairwise(remaining))
    assert 9_895 <= remaining[-1] <= 9_910


def test_who_asks_seldom_buys_one(trips: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asker, now = holder(1_000_000), monotonic()
    for step in range(5):
        monkeypatch.setattr(credit, "monotonic", lambda step=step: now + step)
        credit.charge(asker)
    assert trips == [1] * 5


def test_little_is_bought_where_little_is_left(trips: list[int]) -> None:
    asker = holder(100)
    quotas = [credit.charge(asker) for _ in range(110)]
    assert max(trips) == 1
    assert [quota.is_allowed for quota in quotas] == [True] * 100 + [False] * 10


def test_processes_together_keep_to_the_limit(trips: list[int]) -> None:
    """Two purses stand for two processes."""
    asker, purses = holder(2_000), (credit._Purse(), credit._Purse())
    allowed = sum(purses[number % 2].charge(asker).is_allowed for number in range(2_400))
    # What a purse has left when the limit is reached is lost; what the hour gives back meanwhile is not.
    assert 1_930 <= allowed <= 2_005


@pytest.mark.parametrize("limit", [1_000, 3_000])
def test_threads_together_get_the_whole_limit(limit: int) -> None:
    asker, purse = holder(limit), credit._Purse()
    with ThreadPoolExecutor(8) as threads:
        allowed = sum(threads.map(lambda _: purse.charge(asker).is_allowed, range(limit + 200)))
    # What the hour gives back meanwhile is little.
    assert limit * 0.97 <= allowed <= limit + 5


def test_where_many_are_refused_one_is_still_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes may have used up what there was for many, and left enough for this request."""
    asker, now, bought, left = holder(10_000), monotonic(), list[int](), [10_000]

    def charge(_asker: KeyHolder, requests: int = 1) -> throttling.Quota:
        bought.append(requests)
        is_allowed = requests <= left[0]
        left[0] -= requests if is_allowed else 0
        return throttling.Quota(is_allowed, 10_000, left[0], 0)

    monkeypatch.setattr(credit, "monotonic", lambda: now)
    monkeypatch.setattr(throttling, "charge_key", charge)
    purse = credit._Purse()
    assert purse.charge(asker).is_allowed
    left[0] = 1
    last, none = purse.charge(asker), purse.charge(asker)
    assert bought[:3] == [1, 2, 1]
    assert (last.is_allowed, last.remaining) == (True, 0)
    assert not none.is_allowed
    assert set(bought[3:]) == {1}
