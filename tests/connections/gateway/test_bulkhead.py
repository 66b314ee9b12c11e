"""Places for calls under way."""

from __future__ import annotations

import pytest

from connections.gateway.bulkhead import Bulkhead, bulkhead
from external_apis.errors import TooManyCalls


def test_one_connection_takes_its_share_and_no_more() -> None:
    places = Bulkhead(total=5, each=2)
    first = places.enter("a")
    places.enter("a")
    with pytest.raises(TooManyCalls):
        places.enter("a")
    places.enter("b")
    first.leave()
    first.leave()
    places.enter("a")
    with pytest.raises(TooManyCalls):
        places.enter("a")


def test_all_together_leave_room_for_everything_else() -> None:
    places = Bulkhead(total=2, each=2)
    places.enter("a")
    places.enter("b")
    with pytest.raises(TooManyCalls):
        places.enter("c")


@pytest.mark.parametrize(("threads", "each", "expected"), [(96, 64, (84, 63)), (16, 64, (14, 10)), (1, 1, (1, 1))])
def test_the_sizes_follow_the_threads(settings: object, threads: int, each: int, expected: tuple[int, int]) -> None:
    settings.WEB_THREADS, settings.GATEWAY_CALLS_PER_CONNECTION = threads, each  # type: ignore[attr-defined]
    bulkhead.cache_clear()
    assert (bulkhead().total, bulkhead().each) == expected
