"""The limits of a database connection, as PostgreSQL itself tells them."""

from __future__ import annotations

import pytest
from django.db import connection

from config import postgres
from tests.config.conftest import Installation

SHOW = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SHOW statement_timeout")
    print(cursor.fetchone()[0])
"""


@pytest.mark.django_db
def test_a_commands_statements_take_their_time() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] == "0"


@pytest.mark.parametrize("module", ["config.wsgi", "config.celery"])
def test_those_of_a_serving_process_have_a_limit(installation: Installation, module: str) -> None:
    servers = installation.serve()
    status, output = installation.run("-c", f"import {module}, django; django.setup()\n{SHOW}")
    servers.communicate(timeout=30)
    assert (status, output.split()[-1]) == (0, "10s"), output


def test_the_options_of_the_url_go_before_ours() -> None:
    given = postgres.options("-c statement_timeout=5 -c search_path=x", 10_000)["options"]
    assert given == "-c statement_timeout=10000 -c statement_timeout=5 -c search_path=x"
