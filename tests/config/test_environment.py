"""Whatever stands in the environment is read or named; no message quotes a value that may be a secret."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import runtime
from config.environment import Environment
from tests.config.conftest import Installation

CANARY = "swordfish"


def number(env: Environment) -> int:
    return env.number("NAME", 5, low=1, high=10)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda env: env.required("NAME"), ""),
        (lambda env: env.required("NAME"), "  "),
        *((number, value) for value in ("abc", "0", "11", "-1", "1.5", "1e3", "٣", "9" * 5000, CANARY)),
        *((lambda env: env.flag("NAME", default=True), value) for value in ("maybe", "2", CANARY)),
        (lambda env: env.log_level("NAME"), "LOUD"),
        *(
            (lambda env: env.http_url("NAME", ""), value)
            for value in ("ftp://x", "x", "http://", "http://[", "http://h:99999", "http://h/?a=1", "http://u:p@h")
        ),
        *(
            (lambda env: env.origins("NAME"), value)
            for value in (
                "*",
                "null",
                "app.example",
                "https://a.example/",
                "HTTPS://a.example",
                "https://u:p@h",
                CANARY,
            )
        ),
        *((lambda env: env.addresses("NAME"), value) for value in (CANARY, "a@example.com,b@", "a@example.com;b@c.de")),
        *(
            (lambda env: env.database("NAME"), value)
            for value in (
                CANARY,
                f"mysql://u:{CANARY}@h/n",
                f"postgresql://u:{CANARY}@h:99999999/n",
                f"postgresql://u:{CANARY}@h",
                "sqlite:///x",
            )
        ),
        *(
            (lambda env: env.redis_url("NAME"), value)
            for value in (CANARY, f"http://:{CANARY}@h", f"redis://:{CANARY}@h:x", "unix://")
        ),
        *(
            (lambda env: env.proxy_url("NAME"), value)
            for value in (CANARY, f"socks5://u:{CANARY}@h", f"http://u:{CANARY}@h:x")
        ),
        *((lambda env: env.encryption_keys("NAME"), value) for value in (CANARY, f"k1:{CANARY}", f"k1:{CANARY},")),
        *(
            (lambda env: env.jwt_secrets("NAME"), value)
            for value in (CANARY, f"k1:{CANARY}", f"k1:{CANARY * 4},", f"k1:{CANARY * 4},{CANARY * 5}")
        ),
        *((lambda env: env.egress_allowances("NAME"), value) for value in ("10.0.0.0/99", "a b", "http://h", "h:0")),
        *(
            (lambda env: env.issuer("NAME"), value)
            for value in ("login", "http://login.example.com", "https://u:p@h", "https://h/?a=1", f"ftp://{CANARY}")
        ),
        (lambda env: env.ca_file("NAME"), "/nonexistent"),
        (lambda env: env.ca_file("NAME"), str(Path(__file__))),
        (lambda env: env.ca_file("NAME"), "/"),
        (lambda env: env.email("NAME"), f"ftp://user:{CANARY}@mail.example.com"),
        (lambda env: env.email("NAME"), f"smtp://user:{CANARY}@mail.example.com:port"),
        (lambda env: env.email("NAME"), f"smtp+tls:///{CANARY}"),
        (lambda env: env.email("NAME"), CANARY),
    ],
)
def test_what_is_malformed_is_named_and_not_quoted(read: Callable[[Environment], Any], value: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImproperlyConfigured, match=r"NAME|ENCRYPTION_KEYS|EGRESS_ALLOW|JWT_SECRET") as caught:
            read(Environment({"NAME": value}))
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_every_variable_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    assert Environment({"NAME_FILE": str(tmp_path / "secret")}).required("NAME") == "from the file"
    for bad in (tmp_path / "none", tmp_path, tmp_path / "binary"):
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ImproperlyConfigured, match="NAME_FILE names a file that cannot be read"):
            Environment({"NAME_FILE": str(bad)}).text("NAME")


def test_what_is_fine_is_read() -> None:
    env = Environment({"N": " 7 ", "F": "Yes", "L": "a, b,,c", "U": "https://apis.example.com/x/", "E": ""})
    assert (env.number("N", 1, low=1, high=9), env.flag("F", default=False)) == (7, True)
    assert (env.items("L"), env.http_url("U", "")) == (["a", "b", "c"], "https://apis.example.com/x")
    assert (env.number("E", 4, low=1, high=9), env.flag("E", default=True), env.items("E", ["d"])) == (4, True, ["d"])
    database = Environment({"D": "postgresql://u:p%40ss@h:5433/n?sslmode=require"}).database("D")
    assert (database["PASSWORD"], database["PORT"], database["OPTIONS"]) == ("p@ss", 5433, {"sslmode": "require"})


def test_a_mail_server_is_read_and_none_means_none() -> None:
    read = Environment({"M": "smtp+tls://user:p%40ss@mail.example.com", "N": "smtp://127.0.0.1:2525"}).email
    assert (read("M")["EMAIL_HOST_PASSWORD"], read("M")["EMAIL_PORT"], read("M")["EMAIL_USE_TLS"]) == (
        "p@ss",
        587,
        True,
    )
    assert (read("N")["EMAIL_HOST"], read("N")["EMAIL_PORT"]) == ("127.0.0.1", 2525)
    assert read("NONE")["EMAIL_BACKEND"].endswith("dummy.EmailBackend")


def test_an_issuer_is_kept_as_it_spells_itself() -> None:
    for url in ("https://login.example.com/", "https://login.example.com/realms/staff", "http://127.0.0.1:1/o", ""):
        assert Environment({"I": url}).issuer("I") == url


def test_a_sign_in_that_nobody_could_use_is_refused_at_the_start(installation: Installation) -> None:
    installation.run("manage.py", "help")
    status, output = installation.run("manage.py", "check", PASSWORD_LOGIN="false")
    assert (status, output.strip()) == (1, "PASSWORD_LOGIN=false needs OIDC_ISSUER: nobody could sign in.")
    _, output = installation.run("manage.py", "check", OIDC_ISSUER="https://login.example.com")
    assert output.strip() == "Set the environment variable OIDC_CLIENT_ID (or OIDC_CLIENT_ID_FILE)."


def test_a_command_says_it_in_one_line(installation: Installation) -> None:
    status, output = installation.run("manage.py", "check", PORT="abc", DATABASE_URL="postgresql://h/n", REDIS_URL="x")
    assert (status, output.strip()) == (1, "Set the environment variable SECRET_KEY (or SECRET_KEY_FILE).")


def test_a_malformed_owners_url_is_named_and_not_printed(installation: Installation) -> None:
    url = f"mysql://owner:{CANARY}@h/n"
    installation.run("manage.py", "help")
    status, output = installation.run("manage.py", "check", MIGRATE_DATABASE_URL=url)
    assert status == 1
    assert "MIGRATE_DATABASE_URL names a PostgreSQL database" in output
    assert CANARY not in output


def test_a_fault_is_reached_by_a_test_alone(installation: Installation) -> None:
    program = ("-c", "from config import settings; print(repr(settings.FAULT_FILE))")
    assert installation.run("manage.py", "check")[0] == 0
    assert installation.run(*program, FAULT_FILE="/tmp/fault")[1].splitlines()[-1] == "''"
    assert (
        installation.run(*program, FAULT_FILE="/tmp/fault", TESTING_FAULTS="yes")[1].splitlines()[-1] == "'/tmp/fault'"
    )


def test_a_projects_own_apps_come_along(installation: Installation) -> None:
    """With what they bring: here a workflow."""
    shop = installation.folder / "own" / "shop"
    shop.mkdir(parents=True)
    (shop / "__init__.py").touch()
    (shop / "apps.py").write_text("from django.apps import AppConfig\nclass Shop(AppConfig):\n    name = 'shop'\n")
    (shop / "workflows.py").write_text(
        "from connections.workflows import workflow\nworkflow('ship')(lambda context, given: None)\n"
    )
    path = f"{runtime.CHECKOUT}:{shop.parent}"
    for name in ("shop", " shop.apps.Shop ,"):
        status, output = installation.run("manage.py", "run_workflow", "--help", EXTRA_APPS=name, PYTHONPATH=path)
        assert (status, "ship" in output) == (0, True), output
    status, output = installation.run("manage.py", "check", EXTRA_APPS="shop,shop.nothing.Here", PYTHONPATH=path)
    problem = "EXTRA_APPS names 'shop.nothing.Here', which is not to be found: is its folder in PYTHONPATH?"
    assert (status, output.strip()) == (1, problem)


@pytest.mark.parametrize(
    "name",
    ["nothing", "nothing.apps.Nothing", "connections.nothing", "..", "a b", "shop/../x", "external_apis.nothing.x"],
)
def test_an_app_that_there_is_not_is_named(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^NAME names "):
        Environment({"NAME": f"connections, {name}"}).apps("NAME")
