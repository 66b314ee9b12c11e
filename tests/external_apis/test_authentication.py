"""Who a bearer token stands for: the installation's key, stored keys, JWTs; what is refused, and at what price."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from external_apis import key_lookup, keys, request_context
from external_apis.authentication import BearerAuthentication, authenticate_token, bearer_token
from external_apis.errors import (
    ApiKeyNotConfigured,
    Forbidden,
    InvalidApiKey,
    InvalidAuthScheme,
    InvalidToken,
    MissingAuthHeader,
    NotAuthenticated,
    TokenExpired,
)
from external_apis.key_format import make_token, public_part
from external_apis.key_holder import ADMIN
from external_apis.models import ApiKey, ExternalApi
from external_apis.scopes import SCOPES, permissions_of
from external_apis.tenancy import Scope, scope_of
from external_apis.tokens import issue_jwt
from tests.factories import make_connection, make_key, make_provider, make_tenant, make_user, provider_body
from tests.rest import PROVIDERS, RestClient, connections_of, error_of

pytestmark = pytest.mark.django_db
HOME = "127.0.0.1"


def client_of(token: str) -> RestClient:
    return RestClient(headers={"Authorization": f"Bearer {token}"})


class TestHolders:
    def test_the_installations_key_may_do_everything_without_a_query(
        self, settings: Any, django_assert_num_queries: Any
    ) -> None:
        with django_assert_num_queries(0):
            holder = authenticate_token(settings.ADMIN_API_KEY, HOME)
        assert holder == ADMIN
        assert holder.is_superuser
        assert holder.has_scope("credentials:read")
        assert holder.has_perm("connections.delete_externalapiconnection")
        assert scope_of(holder) == Scope()

    @pytest.mark.parametrize("token", ["key", "jwt"])
    def test_a_stored_key_and_its_jwt_cost_one_query_each(self, token: str, django_assert_num_queries: Any) -> None:
        tenant = make_tenant()
        made = make_key(tenant=tenant, mode="test", scopes=["providers:read"], rate_limit=5)
        sent = made.token
        if token == "jwt":
            sent = issue_jwt(authenticate_token(made.token, HOME)).token
        authenticate_token(sent, HOME)
        with django_assert_num_queries(1):
            holder = authenticate_token(sent, HOME)
        assert (holder.key_id, holder.tenant_id, holder.mode, holder.rate_limit) == (made.key.pk, tenant.pk, "test", 5)
        assert scope_of(holder) == Scope(tenant.pk, is_sandbox=True, reads_credentials=False)
        assert not holder.is_superuser
        assert holder.has_scope("providers:read")
        assert not holder.has_scope("providers:write")
        assert holder.has_perm("external_apis.view_externalapi")
        assert not holder.has_perm("external_apis.add_externalapi")
        assert request_context.current().api_key_id == made.key.pk
        assert request_context.current().actor == f"key:{made.key.pk}"

    def test_every_scope_of_all_is_no_superuser(self) -> None:
        """The wildcard binds a tenant's key to its tenant all the same."""
        tenant = make_tenant()
        holder = authenticate_token(make_key(tenant=tenant).token, HOME)
        assert all(holder.has_scope(scope) for scope in SCOPES)
        assert scope_of(holder).tenant_id == tenant.pk

    def test_a_publishable_key_opens_what_is_public_alone(self) -> None:
        made = make_key(type="publishable", scopes=[], tenant=make_tenant())
        with pytest.raises(Forbidden):
            authenticate_token(made.token, HOME)
        holder = authenticate_token(made.token, HOME, "publishable")
        assert not holder.is_staff
        assert not holder.has_scope("providers:read")
        assert not holder.has_perm("external_apis.view_externalapi")
        with pytest.raises(Forbidden):
            authenticate_token(make_key().token, HOME, "publishable")
        assert error_of(client_of(made.token).get(PROVIDERS)) == (403, "FORBIDDEN")

    def test_the_permissions_that_scopes_stand_for_exist(self) -> None:
        from django.contrib.auth.models import Permission

        stored = Permission.objects.values_list("content_type__app_label", "codename")
        assert permissions_of(SCOPES) <= {f"{app}.{name}" for app, name in stored}


class TestRefusals:
    @pytest.mark.parametrize(
        "token",
        [
            "",
            "x",
            "sk_live_",
            "sk_live_short",
            "Bearer",
            "a b",
            "\xff\xfe",
            "ключ",
            "x" * 100_000,
            "\0",
            "sk_live_\ud800",
        ],
    )
    def test_what_cannot_be_a_key_is_refused_without_a_query(self, token: str, django_assert_num_queries: Any) -> None:
        make_key()
        with django_assert_num_queries(0), pytest.raises(InvalidApiKey):
            authenticate_token(token, None)

    def test_a_mistyped_key_is_refused_without_a_query(self, settings: Any, django_assert_num_queries: Any) -> None:
        token = make_key().token
        mistyped = token[:30] + ("x" if token[30] != "x" else "y") + token[31:]
        with django_assert_num_queries(0), pytest.raises(InvalidApiKey):
            authenticate_token(mistyped, None)
        # Nor with the installation's key unset, once a stored key has been seen.
        settings.ADMIN_API_KEY = ""
        key_lookup.is_configured()
        with django_assert_num_queries(0), pytest.raises(InvalidApiKey):
            authenticate_token(mistyped, None)

    def test_a_key_with_a_known_beginning_and_a_right_checksum_is_refused(self) -> None:
        token = make_key().token
        forged = make_token("secret", "live")
        ApiKey.objects.update(public_part=public_part(forged))
        assert forged != token
        with pytest.raises(InvalidApiKey, match="not valid"):
            authenticate_token(forged, HOME)

    def test_a_revoked_expired_or_orphaned_key_is_dead_at_once_with_its_jwts(self) -> None:
        tenant = make_tenant()
        user = make_user(tenant=tenant)

        def end_tenant() -> None:
            tenant.is_active = False
            tenant.save()

        def end_owner() -> None:
            user.is_active = False
            user.save()

        def end(act: Callable[[keys.Created], Any], **fields: Any) -> None:
            made = make_key(**fields)
            jwt = issue_jwt(authenticate_token(made.token, HOME)).token
            assert authenticate_token(jwt, HOME).key_id == made.key.pk
            act(made)
            with pytest.raises(InvalidApiKey):
                authenticate_token(made.token, HOME)
            with pytest.raises(InvalidToken):
                authenticate_token(jwt, HOME)

        end(lambda made: keys.revoke(made.key))
        end(lambda made: ApiKey.objects.filter(pk=made.key.pk).update(expires_at=timezone.now()))
        end(lambda made: made.key.delete())
        end(lambda made: end_owner(), tenant=tenant, owner_id=user.external_apis_account.pk)
        end(lambda made: end_tenant(), tenant=tenant)

    def test_without_any_key_the_answer_says_so(self, settings: Any) -> None:
        settings.ADMIN_API_KEY = ""
        for token in ("", "x", "sk_live_x", make_token("secret", "live"), "a.b.c"):
            with pytest.raises(ApiKeyNotConfigured):
                authenticate_token(token, HOME)
        with pytest.raises(ApiKeyNotConfigured):
            bearer_token("")
        response = client_of("x").get(PROVIDERS)
        assert error_of(response) == (503, "API_KEY_NOT_CONFIGURED")
        make_key()
        with pytest.raises(InvalidApiKey):
            authenticate_token("sk_live_x", HOME)

    def test_an_unset_installation_key_is_nobodys(self, settings: Any) -> None:
        settings.ADMIN_API_KEY = ""
        make_key()
        with pytest.raises(InvalidApiKey):
            authenticate_token("", HOME)

    @pytest.mark.parametrize(
        ("header", "error"),
        [
            ("", MissingAuthHeader),
            ("   ", MissingAuthHeader),
            ("Basic eDp5", InvalidAuthScheme),
            ("sk_live_x", InvalidAuthScheme),
            ("Bearers x", InvalidAuthScheme),
            ("Bearer\tx", InvalidAuthScheme),
        ],
    )
    def test_headers(self, header: str, error: type[NotAuthenticated]) -> None:
        with pytest.raises(error):
            bearer_token(header)

    def test_the_scheme_is_known_in_any_case(self, settings: Any) -> None:
        assert bearer_token(f"bEARER   {settings.ADMIN_API_KEY} ") == settings.ADMIN_API_KEY

    def test_a_known_and_an_unknown_key_take_the_same_work(self) -> None:
        """One query each with the same plan and one digest each; and, leniently, the same time."""
        known = make_key().token
        forged = make_token("secret", "live")
        ApiKey.objects.filter(public_part=public_part(known)).update(public_part=public_part(forged))
        unknown = make_token("secret", "live")

        def seconds(token: str) -> float:
            began = time.perf_counter()
            assert key_lookup.find_by_token(token) is None
            return time.perf_counter() - began

        seconds(forged)
        samples = [(seconds(forged), seconds(unknown)) for _ in range(150)]
        first, second = (statistics.median(column) for column in zip(*samples, strict=True))
        assert 0.7 < first / second < 1.4


class TestNetworks:
    @pytest.mark.parametrize(
        ("networks", "address", "is_allowed"),
        [
            ([], "203.0.113.9", True),
            ([], None, True),
            (["10.0.0.0/8"], "10.255.0.1", True),
            (["10.0.0.0/8"], "11.0.0.1", False),
            (["192.0.2.7"], "192.0.2.7", True),
            (["192.0.2.7"], "192.0.2.8", False),
            (["2001:db8::/32"], "2001:db8:1::1", True),
            (["2001:db8::/32"], "2001:db9::1", False),
            (["2001:db8::/32"], "10.0.0.1", False),
            (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
            (["0.0.0.0/0"], None, False),
            (["0.0.0.0/0"], "not an address", False),
        ],
    )
    def test_a_key_works_from_its_networks_alone(
        self, networks: list[str], address: str | None, is_allowed: bool
    ) -> None:
        token = make_key(allowed_networks=networks).token
        if is_allowed:
            assert authenticate_token(token, address)
        else:
            with pytest.raises(Forbidden):
                authenticate_token(token, address)

    def test_a_jwt_is_bound_to_the_networks_too(self) -> None:
        made = make_key(allowed_networks=["10.0.0.0/8"])
        jwt = issue_jwt(authenticate_token(made.token, "10.0.0.1")).token
        with pytest.raises(Forbidden):
            authenticate_token(jwt, HOME)

    def test_the_peer_counts_and_not_what_it_says(self, settings: Any) -> None:
        client = client_of(make_key(allowed_networks=["10.0.0.0/8"]).token)

        def status(peer: str, forwarded: str) -> int:
            headers = {"X-Forwarded-For": forwarded} if forwarded else {}
            return int(client.get(PROVIDERS, REMOTE_ADDR=peer, headers=headers).status_code)

        assert status("10.0.0.1", "") == 200
        assert status("::ffff:10.0.0.1", "") == 200
        assert status("203.0.113.9", "10.0.0.1") == 403
        settings.TRUST_PROXY_HEADERS = True
        assert status("203.0.113.9", "10.0.0.1") == 200
        assert status("203.0.113.9", "10.0.0.1, 198.51.100.1") == 403
        assert status("203.0.113.9", "198.51.100.1, 10.0.0.1") == 200
        assert status("10.0.0.1", "rubbish") == 403
        assert status("203.0.113.9", "198.51.100.1:80, 10.0.0.1:55555") == 200, "some proxies write a port"
        assert status("203.0.113.9", "[::ffff:10.0.0.1]:555") == 200
        for forwarded in (
            "10.0.0.1:",
            "10.0.0.1:x",
            "10.0.0.1:1:2",
            "[10.0.0.1",
            "[]",
            "[10.0.0.1]x",
            "203.0.113.9:80",
        ):
            assert status("10.0.0.1", forwarded) == 403, forwarded


class TestModes:
    """A test key sees the sandbox alone, a live key what is live, and what either does not see is missing."""

    def test_each_mode_sees_its_own(self) -> None:
        live, sandbox = (
            make_connection(make_provider(slug="api")),
            make_connection(make_provider(slug="api", is_sandbox=True)),
        )
        for mode, own, other in (("live", live, sandbox), ("test", sandbox, live)):
            client = client_of(make_key(mode=mode).token)
            assert [item["id"] for item in client.get(PROVIDERS).json()] == [own.external_api_id]
            assert client.get(f"{PROVIDERS}/{own.external_api_id}").status_code == 200
            assert client.get(f"{PROVIDERS}/api").json()["id"] == own.external_api_id
            assert client.get(f"{connections_of(own.external_api)}/{own.pk}").status_code == 200
            for path in (
                f"{PROVIDERS}/{other.external_api_id}",
                connections_of(other.external_api),
                f"{connections_of(other.external_api)}/{other.pk}",
                f"{connections_of(own.external_api)}/{other.pk}",
            ):
                foreign = client.get(path)
                missing = client.get(path.replace(other.pk, "conn_x").replace(other.external_api_id, "ext_api_x"))
                assert foreign.status_code == missing.status_code == 404
            for method in ("patch", "delete"):
                assert client.send(method, f"{PROVIDERS}/{other.external_api_id}", {}).status_code == 404
            scope = Scope(None, is_sandbox=mode == "test")
            for model in (type(live), type(live.credential), ExternalApi):
                assert scope.own(model._default_manager.all()).count() == 1

    def test_what_a_test_key_makes_is_of_the_sandbox(self) -> None:
        client = client_of(make_key(mode="test").token)
        made = client.send("post", PROVIDERS, provider_body())
        assert made.status_code == 201
        assert made.json()["is_sandbox"] is True
        assert error_of(client.send("post", PROVIDERS, provider_body(is_sandbox=False))) == (400, "VALIDATION_ERROR")
        url = f"{PROVIDERS}/{made.json()['id']}"
        assert error_of(client.send("patch", url, {"is_sandbox": False})) == (400, "VALIDATION_ERROR")
        assert client.send("patch", url, {"is_sandbox": True, "name": "New"}).status_code == 200

    def test_a_live_key_makes_nothing_in_the_sandbox(self) -> None:
        client = client_of(make_key().token)
        assert client.send("post", PROVIDERS, provider_body()).json()["is_sandbox"] is False
        assert error_of(client.send("post", PROVIDERS, provider_body(is_sandbox=True))) == (400, "VALIDATION_ERROR")

    def test_the_installations_key_sees_both(self, settings: Any) -> None:
        make_provider(slug="api")
        make_provider(slug="api", is_sandbox=True)
        assert len(client_of(settings.ADMIN_API_KEY).get(PROVIDERS).json()) == 2

    def test_the_management_rest_needs_the_scopes(self) -> None:
        api = make_provider()
        reader = client_of(make_key(scopes=["providers:read"]).token)
        assert reader.get(PROVIDERS).status_code == 200
        assert error_of(reader.send("post", PROVIDERS, provider_body())) == (403, "FORBIDDEN")
        assert error_of(reader.get(connections_of(api))) == (403, "FORBIDDEN")
        nothing = client_of(make_key(scopes=[]).token)
        assert error_of(nothing.get(PROVIDERS)) == (403, "FORBIDDEN")

    def test_a_tenants_key_is_bound_like_its_people(self) -> None:
        tenant = make_tenant()
        mine, foreign = make_provider(tenant=tenant), make_provider(tenant=make_tenant())
        shared = make_provider()
        client = client_of(make_key(tenant=tenant).token)
        assert {item["id"] for item in client.get(PROVIDERS).json()} == {mine.pk, shared.pk}
        assert client.get(f"{PROVIDERS}/{foreign.pk}").status_code == 404
        assert error_of(client.send("patch", f"{PROVIDERS}/{shared.pk}", {"name": "x"})) == (403, "FORBIDDEN")
        assert client.send("post", PROVIDERS, provider_body()).json()["sales_channel_id"] == tenant.pk


def test_a_missing_header_is_told_from_a_wrong_one(rf: Any) -> None:
    from rest_framework.request import Request

    with pytest.raises(MissingAuthHeader):
        BearerAuthentication().authenticate(Request(rf.get("/")))


def test_a_jwt_outlives_nothing(settings: Any) -> None:
    made = make_key()
    jwt = issue_jwt(authenticate_token(made.token, HOME)).token
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.ADMIN_API_JWT_TTL + 1)):
        with pytest.raises(TokenExpired):
            authenticate_token(jwt, HOME)
        response = client_of(jwt).get(PROVIDERS)
        assert error_of(response) == (401, "TOKEN_EXPIRED")


_OTHER = """
import json, sys, django
from django.conf import settings
settings.DATABASES["default"].update(json.loads(sys.argv[1]))
django.setup()
from external_apis.authentication import authenticate_token
from external_apis.errors import NotAuthenticated
tokens = sys.argv[2:]
for line in sys.stdin:
    outcomes = []
    for token in tokens:
        try:
            authenticate_token(token, "127.0.0.1")
            outcomes.append("alive")
        except NotAuthenticated as error:
            outcomes.append(error.code)
    print(*outcomes, flush=True)
"""


@pytest.mark.django_db(transaction=True)
def test_a_revoked_key_is_dead_in_another_process_within_a_second() -> None:
    made = make_key()
    jwt = issue_jwt(authenticate_token(made.token, HOME)).token
    database = {name: str(connection.settings_dict[name]) for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER, json.dumps(database), made.token, jwt],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("?\n")
        assert process.stdout.readline() == "alive alive\n"
        keys.revoke(made.key)
        began = time.monotonic()
        process.stdin.write("?\n")
        assert process.stdout.readline() == "INVALID_API_KEY INVALID_TOKEN\n"
        assert time.monotonic() - began < 1
