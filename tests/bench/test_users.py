"""The users list with a search, over 1,000 users and over 100,000: p95 of rare, frequent and absent terms.

A quarter of the family names is in Cyrillic letters.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection

from external_apis import valkey
from external_apis.paging import TOTAL_KEYS
from tests.envelope import EXTERNAL, checked, client_of
from tests.factories import make_key
from tests.rest import RestClient

pytestmark = pytest.mark.django_db(transaction=True)

_ASKED = 60
_FREQUENT = ("example", "person", "@example.com", "ample", "Ada", "love", "Grace", "hopper", "pers", "xample.c")
"""Between a fifth of the users and all of them have these."""
_GIVEN = ("Ada Lovelace", "Grace Hopper", "Alan", "Edsger", "Barbara")


def test_a_search_follows_what_it_finds_and_not_the_table(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 1_000_000
    client = client_of(make_key(scopes=["users:read"]).token)
    figures = []
    for first, last in ((0, 1_000), (1_000, 100_000)):
        _make_users(first, last)
        chance = random.Random(last)
        rare = [_word(chance.randrange(last // 4) * 4) for _ in range(_ASKED)]
        cyrillic = [_word(chance.randrange(last // 4) * 4 + 3) for _ in range(_ASKED)]
        figures.append(
            {
                "rare": _p95(client, rare, finds=True),
                "Cyrillic": _p95(client, cyrillic, finds=True),
                "Cyrillic, two letters": _p95(client, [word[:2] for word in cyrillic], finds=True),
                "Cyrillic, absent": _p95(client, [f"щщ{number}щщ" for number in range(_ASKED)], finds=False),
                "punctuation": _p95(client, ["@@@"] * _ASKED, finds=False),
                "frequent": _p95(client, [chance.choice(_FREQUENT) for _ in range(_ASKED)], finds=True),
                "two letters": _p95(client, [word[:2] for word in rare], finds=True),
                "absent": _p95(client, [f"zz{number}zz" for number in range(_ASKED)], finds=False),
                "none": _p95(client, [""] * _ASKED, finds=True),
            }
        )
    small, large = figures
    ratios = {kind: large[kind] / small[kind] for kind in small}
    shown = ", ".join(f"{kind} {small[kind]:.1f} to {large[kind]:.1f} ms ({ratios[kind]:.2f})" for kind in small)
    print(f"\np95 of the users list, 1,000 to 100,000 users: {shown}")
    assert max(ratios.values()) < 3


def _word(number: int) -> str:
    """A family name that one user has, the same for the same number."""
    letters = random.Random(number)
    alphabet = "абвгдежзиклмнопрстуфхцчшэюя" if number % 4 == 3 else "abcdefghijklmnopqrstuvwxy"
    return "".join(letters.choice(alphabet) for _ in range(8))


def _make_users(first: int, last: int) -> None:
    chance = random.Random(first)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS words (n int, given text, family text)")
        cursor.execute("TRUNCATE words")
        with cursor.copy("COPY words FROM STDIN") as copy:
            for number in range(first, last):
                copy.write_row((number, chance.choice(_GIVEN), _word(number)))
        cursor.execute(
            "INSERT INTO auth_user (username, first_name, last_name, email, password, is_staff, is_superuser, "
            "is_active, date_joined) SELECT 'person-' || n, given, family, 'p' || n || '@example.com', '!', false, "
            "false, true, now() FROM words"
        )
        cursor.execute(
            "INSERT INTO external_apis_account (id, user_id, plan, tokens, created_at, updated_at) "
            "SELECT 'user_bench' || lpad(id::text, 12, '0'), id, '', 0, now(), now() FROM auth_user "
            "WHERE NOT EXISTS (SELECT 1 FROM external_apis_account AS a WHERE a.user_id = auth_user.id)"
        )
        for table in ("auth_user", "external_apis_account"):
            cursor.execute(f"VACUUM ANALYZE {table}")


def _p95(client: RestClient, searches: Sequence[str], *, finds: bool) -> float:
    """Milliseconds; no total is one of the last five seconds'."""
    taken = []
    for search in searches:
        for key in valkey.client().scan_iter(f"{TOTAL_KEYS}*", count=1_000):
            valkey.client().delete(key)
        query = {"search": search} if search else {}
        began = time.perf_counter()
        answer = client.get(f"{EXTERNAL}/users", query)
        taken.append((time.perf_counter() - began) * 1000)
        assert bool(checked(answer)["data"]) is finds, search
    return sorted(taken)[int(len(taken) * 0.95)]
