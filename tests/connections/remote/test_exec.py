"""Commands with connections' values: real processes, by ``manage.py exec`` and by its twin on another machine."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from connections.management.commands import exec as exec_command
from connections.remote import __main__ as remote_main
from connections.remote.environment import Departure, collect, departing, read_wanted
from external_apis.errors import InvalidInput, MissingCredential
from external_apis.models import AuditEvent
from external_apis.project_settings import _DEFAULTS
from tests.factories import make_connection, make_key, make_provider, make_tenant
from tests.web import ROOT, Web, environment

SECRET = "sk-of-the-tests-0001"
_SHOW = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:], open('/proc/self/cmdline').read()]))"
SHOW = [sys.executable, "-c", _SHOW]


@pytest.fixture
def _stripe(db: None) -> None:
    make_connection(make_provider(slug="stripe"), slug="default", credentials={"access_token": SECRET})


def departure(*arguments: str) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    with pytest.raises(Departure) as caught:
        call_command("exec", *arguments)
    command, variables, withheld = caught.value._arguments
    return list(command), dict(variables), tuple(withheld)


@pytest.mark.usefixtures("_stripe")
def test_what_a_command_is_given() -> None:
    command, variables, _ = departure("--env", "KEY=stripe/default", "--", "cmd", "--env", "x", "--help")
    assert command == ["cmd", "--env", "x", "--help"]
    assert variables == {"KEY": SECRET}
    event = AuditEvent.objects.get(action="credentials.read")
    assert (event.actor, event.changes) == ("command:exec", {"read": ["access_token"]})
    assert departure("--connection", "stripe", "--", "cmd")[1] == {"STRIPE_ACCESS_TOKEN": SECRET}
    with pytest.raises(CommandError, match="not found"):
        call_command("exec", "--env", "KEY=nobody/default", "--", "cmd")
    with pytest.raises(CommandError, match="command is missing"):
        call_command("exec", "--env", "KEY=stripe/default")


@pytest.mark.django_db
def test_of_one_tenant() -> None:
    tenant, api = make_tenant(slug="acme"), make_provider(slug="stripe")
    make_connection(api, slug="default", credentials={"access_token": SECRET})
    make_connection(api, slug="default", tenant=tenant, credentials={"access_token": "sk-of-acme"})
    assert departure("--env", "KEY=stripe/default", "--tenant", "acme", "--", "cmd")[1] == {"KEY": "sk-of-acme"}
    assert departure("--env", "KEY=stripe/default", "--", "cmd")[1] == {"KEY": SECRET}
    with pytest.raises(CommandError, match="Tenant"):
        call_command("exec", "--env", "KEY=stripe/default", "--tenant", "nobody", "--", "cmd")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_remote", [False, True])
def test_the_command_takes_the_place_of_the_process(is_remote: bool, web: Web, tmp_path: Path) -> None:
    make_connection(make_provider(slug="stripe"), slug="default", credentials={"access_token": SECRET})
    key = make_key(scopes=["credentials:read"]).token
    environ = {**os.environ, **environment(), "MINE": "kept", "EGRESS_PROXY": "http://u:p@127.0.0.1:1"}
    command = [sys.executable, "manage.py"]
    if is_remote:
        environ = {"PATH": os.environ["PATH"], "EAM_URL": web.url, "EAM_KEY": key, "MINE": "kept"}
        command = [sys.executable, "-m", "connections.remote"]
    command += ["exec", "--env", "STRIPE_SECRET_KEY=stripe/default:access_token", "--"]

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *arguments], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    # One start shows environment and arguments, waits for a signal, and ends with a code of its own.
    script = f"{_SHOW}; sys.stdout.flush(); import signal; "
    script += "signal.signal(signal.SIGTERM, lambda *_: os._exit(7)); print('ready', os.getpid(), flush=True); "
    script += "signal.pause()"
    process = start(sys.executable, "-c", script, "a b", "--help")
    assert process.stdout is not None
    shown = json.loads(process.stdout.readline() or "null")
    assert shown is not None, process.communicate()[1]
    variables, arguments, cmdline = shown
    assert process.stdout.readline().split() == ["ready", str(process.pid)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    assert variables["STRIPE_SECRET_KEY"] == SECRET
    assert variables["MINE"] == "kept"
    assert arguments == ["a b", "--help"]
    assert SECRET not in cmdline
    hidden = (
        "EAM_KEY",
        "EAM_URL",
        "EGRESS_PROXY",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "ENCRYPTION_KEYS",
        "DATABASE_URL",
        "REDIS_URL",
        "SECRET_KEY",
        "ADMIN_API_KEY",
    )
    assert not [name for name in hidden if name in variables]
    assert [name for name, value in variables.items() if SECRET in value] == ["STRIPE_SECRET_KEY"]
    if is_remote:
        ignored = start("grep", "SigIgn", "/proc/self/status").communicate(timeout=20)[0]
        assert (
            not int(ignored.split()[1], 16) & 1 << signal.SIGPIPE - 1
        )  # which Python ignores, and commands should not
        assert start("/nowhere/at-all").wait(20) == 127
        assert start(str(tmp_path)).wait(20) == 126
        environ["EAM_KEY"] = "sk_live_nobodys"
        refused = start(*SHOW)
        out, err = refused.communicate(timeout=20)
        assert (refused.returncode, out) == (2, "")
        assert "sk_live_nobodys" not in err
        assert "Traceback" not in err


def test_values_under_their_usual_names() -> None:
    known: dict[str, dict[str, Any]] = {
        "stripe/default": {"access_token": "1"},
        "send-grid/eu-2": {"api_key": "2", "additional_data": {"a": 1}},
        "2captcha/default": {"api_key": "3"},
    }
    asked: list[str] = []

    def read(reference: str) -> tuple[str, dict[str, Any]]:
        asked.append(reference)
        return reference, known[reference]

    wanted = read_wanted(["A=stripe/default", "B=send-grid/eu-2:api_key"], [*known])
    assert collect(wanted, read) == {
        "A": "1",
        "B": "2",
        "STRIPE_ACCESS_TOKEN": "1",
        "SEND_GRID_EU_2_API_KEY": "2",
        "SEND_GRID_EU_2_ADDITIONAL_DATA": '{"a": 1}',
        "_2CAPTCHA_API_KEY": "3",
    }
    assert asked == [*known]
    with pytest.raises(MissingCredential):
        collect(read_wanted(["A=stripe/default:password"], []), read)
    with pytest.raises(InvalidInput, match="STRIPE_ACCESS_TOKEN twice"):
        collect(read_wanted(["STRIPE_ACCESS_TOKEN=stripe/default"], ["stripe/default"]), read)
    with pytest.raises(InvalidInput, match="NUL") as caught:
        collect(read_wanted(["A=x"], []), lambda reference: (reference, {"api_key": "se\0cret"}))
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [[], ["A"], ["=a"], ["A="], ["A B=c"], ["1A=c"], ["A=x", "A=y"], ["PATH=x"], ["LD_PRELOAD=x"], ["Ä=x"], ["A\n=x"]],
)
def test_variables_that_are_none(variables: list[str]) -> None:
    with pytest.raises(InvalidInput):
        read_wanted(variables, [])


@pytest.mark.parametrize(
    ("name", "credential"),
    [
        ("ld/default", "preload"), ("dyld/insert", "libraries"), ("node/default", "options"),
        ("database/default", "url"), ("redis/default", "url"), ("secret/default", "key"), ("git/ssh", "command"),
        ("eam/default", "key"), ("python/default", "path"), ("http/default", "proxy"), ("java/tool", "options"),
        ("django/settings", "module"), ("metrics/default", "token"),
    ],
)  # fmt: skip
def test_whoever_names_a_connection_does_not_steer_the_command(name: str, credential: str) -> None:
    with pytest.raises(InvalidInput, match="which means something else"):
        collect(read_wanted([], [name]), lambda _: (name, {credential: "x"}), ["METRICS_TOKEN"])


@pytest.mark.parametrize(
    "name",
    ["GIT_SSH_COMMAND", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHON_GIL", "DYLD_INSERT_LIBRARIES", "LD_AUDIT",
     "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "PERL5LIB", "RUBYLIB", "NODE_PATH", "BASH_FUNC_x", "https_proxy",
     "SSL_CERT_FILE", "GCONV_PATH", "PROMPT_COMMAND", "DJANGO_SETTINGS_MODULE"],
)  # fmt: skip
def test_variables_that_steer_are_not_set(name: str) -> None:
    with pytest.raises(InvalidInput):
        read_wanted([f"{name}=stripe/default"], [])


def test_variables_that_look_like_those_and_are_none() -> None:
    names = ["GITHUB_TOKEN", "PYTHONANYWHERE_API_KEY", "DATABASE_URL", "HOME_ASSISTANT_TOKEN", "LDAP_PASSWORD"]
    assert [item.variable for item in read_wanted([f"{name}=x/y" for name in names], [])] == names


@pytest.mark.django_db(transaction=True)
def test_both_twins_name_and_refuse_alike(
    web: Web, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = make_connection(make_provider(slug="stripe"), slug="eu", credentials={"access_token": SECRET})
    became: list[dict[str, str]] = []
    monkeypatch.setattr(remote_main, "become", lambda _command, variables, _withheld: became.append(dict(variables)))
    monkeypatch.setattr(Departure, "become", lambda self: became.append(dict(self._arguments[1])))
    monkeypatch.setenv("EAM_URL", web.url)
    monkeypatch.setenv("EAM_KEY", make_key(scopes=["credentials:read"]).token)
    for reference in (row.pk, "stripe"):
        remote_main.main(["exec", "--connection", reference, "--", "cmd"])
        exec_command.Command().run_from_argv(["manage.py", "exec", "--connection", reference, "--", "cmd"])
    assert became == [{"STRIPE_EU_ACCESS_TOKEN": SECRET}] * 4
    for wrong in (["--env", "PATH=stripe"], ["--env", "A=nobody/x"], ["--env", "A=stripe:password"]):
        told = []
        for run in (remote_main.main, lambda given: exec_command.Command().run_from_argv(["manage.py", *given])):
            with pytest.raises(SystemExit) as ended:
                run(["exec", *wrong, "--", "cmd"])
            told.append((ended.value.code, capsys.readouterr().err.strip()))
        assert told[0] == told[1]
        assert told[0][0] == 2
        assert "CommandError" not in told[0][1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_stripe")
def test_without_anybody_to_clear_up_the_command_departs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []
    monkeypatch.setattr(Departure, "become", lambda self: became.append(self))  # noqa: PLW0108 (a method)
    arguments = ["django-admin", "exec", "--env", "KEY=stripe/default", "--", "cmd"]
    exec_command.Command().run_from_argv(arguments)
    assert len(became) == 1
    order: list[str] = []

    @contextmanager
    def servers() -> Iterator[None]:
        try:
            yield
        finally:
            order.append("stopped")

    monkeypatch.setattr(Departure, "become", lambda self: order.append("became"))
    with departing(), servers():
        exec_command.Command().run_from_argv(arguments)
    assert order == ["stopped", "became"]
    with pytest.raises(SystemExit) as ended:  # called by code that does not know of it
        call_command("exec", *arguments[2:])
    assert "was not run" in str(ended.value.code)


def test_every_secret_that_the_settings_read_is_withheld() -> None:
    tree = ast.parse((ROOT / "config/settings.py").read_text())
    read = {
        (call.func.attr, str(call.args[0].value))
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    typed = {
        "secret",
        "required_secret",
        "encryption_keys",
        "jwt_secrets",
        "database",
        "redis_url",
        "email",
        "proxy_url",
    }
    secret = {name for reader, name in read if reader in typed}
    telling = re.compile("KEY|SECRET|PASSWORD|PASSPHRASE|TOKEN|CREDENTIAL|_URL$|PROXY$")
    open_to_all = {"BACKUP_KEYS_FILE", "PUBLIC_BASE_URL", "SANDBOX_URL", "PASSWORD_LOGIN"}
    assert {name for _, name in read if telling.search(name)} - open_to_all <= secret
    hidden = exec_command.withheld_names()
    assert secret == set(settings.SECRET_VARIABLES)
    assert secret == set(_DEFAULTS["SECRET_VARIABLES"])  # of another project's settings, which name none
    assert secret | {f"{name}_FILE" for name in secret} <= hidden
    assert {"EGRESS_PROXY", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "EAM_KEY"} <= hidden
