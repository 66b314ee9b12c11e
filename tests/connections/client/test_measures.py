"""Bags of numbers: they add up, and their percentiles are those of the durations, to the promised 9 %."""

from __future__ import annotations

import random

import pytest

from connections.client import measures
from connections.client.measures import add, bound_seconds, bucket_name, percentile, total


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_percentiles_are_at_most_nine_percent_off(share: float) -> None:
    chance = random.Random(6)
    durations = sorted(chance.lognormvariate(-3, 2) for _ in range(2_000))
    bag = total({bucket_name(seconds): 1} for seconds in durations)
    true = durations[max(round(share * len(durations)) - 1, 0)]
    found = percentile(bag, share)
    assert found is not None
    assert found == pytest.approx(true, rel=0.095)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, 1e-4])
def test_the_shortest_go_into_the_first_bucket(seconds: float) -> None:
    assert bucket_name(seconds) == f"{measures.BUCKET}0"


def test_a_bucket_ends_at_its_bound_and_days_are_not_told_apart() -> None:
    for bucket in range(1, 120):
        assert bucket_name(bound_seconds(bucket) * 0.999) == f"{measures.BUCKET}{bucket}"
    assert bucket_name(1e6) == bucket_name(1e9) == f"{measures.BUCKET}120"


def test_bags_add_up_in_any_order() -> None:
    bags = [{"calls": 1, "le:3": 1}, {"calls": 2}, {"errors": 1, "le:3": 4}]
    assert total(bags) == total(reversed(bags)) == {"calls": 3, "errors": 1, "le:3": 5}
    into = {"calls": 1}
    add(into, into.copy())
    assert into == {"calls": 2}


def test_no_call_has_no_percentile() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({"calls": 1}, 0.5) is None
