"""Operations on keys (seed 003): what is stored, who may make what, and how a key ends."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from external_apis import keys, request_context
from external_apis.errors import Conflict, Forbidden, InvalidInput, NotFound
from external_apis.key_digests import make_secret
from external_apis.key_granting import Granter, granter_of
from external_apis.key_lookup import find_by_token
from external_apis.models import ApiKey, AuditEvent, DigestSecret
from external_apis.rotation import columns
from external_apis.shredding import shred
from external_apis.tenancy import Scope
from tests.factories import make_key, make_tenant, make_user

pytestmark = pytest.mark.django_db


def actions(key: ApiKey) -> list[str]:
    return sorted(AuditEvent.objects.filter(object_id=key.pk).values_list("action", flat=True))


class TestStoring:
    def test_the_token_is_nowhere_in_the_database(self) -> None:
        made = make_key(title="Secret API key")
        secret = made.token[20:]
        with connection.cursor() as cursor:
            for model in (ApiKey, AuditEvent, DigestSecret):
                cursor.execute(f"SELECT t::text FROM {model._meta.db_table} t")
                text = str(cursor.fetchall())
                assert secret not in text
                assert secret.encode().hex() not in text
        assert made.token not in repr(made)
        assert made.token not in str(vars(made.key))

    def test_the_digest_is_keyed_by_a_sealed_secret(self) -> None:
        """Under another digest secret the same token is not found."""
        made = make_key()
        assert find_by_token(made.token) is not None
        row = DigestSecret.objects.get()
        assert make_secret().hex() not in str(bytes(row.__dict__["secrets"]))
        row.secrets = {"hmac": "00" * 32}
        row.save()
        assert find_by_token(made.token) is None

    def test_the_digest_secret_goes_through_the_vaults_rotation(self) -> None:
        assert "DigestSecret" in {column.model.__name__ for column in columns()}

    def test_medusas_fields(self) -> None:
        with request_context.acting("user:alice"):
            made = make_key(title="Publishable API key", type="publishable", scopes=[], tenant=make_tenant())
            keys.revoke(made.key)
        key = keys.find(made.key.pk)
        assert (key.title, key.type, key.created_by, key.revoked_by) == (
            "Publishable API key",
            "publishable",
            "user:alice",
            "user:alice",
        )
        assert key.revoked_at is not None
        assert key.redacted == f"pk_liv***{made.token[-3:]}"

    def test_networks_are_stored_in_their_canonical_form(self) -> None:
        made = make_key(allowed_networks=["10.1.2.3/16", "192.0.2.7", "2001:DB8::1/32"])
        assert made.key.allowed_networks == ["10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"type": "private"}, "type"),
        ({"mode": "production"}, "mode"),
        ({"scopes": ["providers:all"]}, "scopes"),
        ({"scopes": ["\ud800"]}, "scopes.0"),
        ({"type": "publishable", "scopes": []}, "tenant_id"),
        ({"type": "publishable", "scopes": ["*"], "tenant_id": "ten"}, "scopes"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"allowed_networks": ["10.0.0.0/33"]}, "allowed_networks.0"),
        ({"allowed_networks": ["example.com"]}, "allowed_networks.0"),
        ({"rate_limit": 0}, "rate_limit"),
        ({"rate_limit": -1}, "rate_limit"),
        ({"digest": "x"}, "digest"),
        ({"id": "apk_mine"}, "id"),
    ],
)
def test_bad_input_is_named(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_key(**fields)
    assert caught.value.details["errors"][0]["path"] == path
    assert not ApiKey.objects.exists()


class TestGranting:
    """Nobody makes a key that may do more than they may themselves."""

    def test_a_tenants_key_makes_keys_of_its_tenant_mode_and_scopes_alone(self) -> None:
        own, other = make_tenant(), make_tenant()
        granter = Granter(Scope(own.pk, is_sandbox=False), frozenset({"keys:write", "providers:read"}))
        body = {"title": "x", "type": "secret", "scopes": ["providers:read"]}
        assert keys.create(body, granter).key.tenant_id == own.pk
        with pytest.raises(NotFound, match=f"Tenant {other.pk} not found"):
            keys.create({**body, "tenant_id": other.pk}, granter)
        with pytest.raises(NotFound, match="Tenant ten_missing not found"):
            keys.create({**body, "tenant_id": "ten_missing"}, granter)
        for wanted in (["*"], ["providers:read", "credentials:read"]):
            with pytest.raises(Forbidden):
                keys.create({**body, "scopes": wanted}, granter)
        with pytest.raises(Forbidden):
            keys.create({**body, "mode": "test"}, granter)
        assert ApiKey.objects.count() == 1

    def test_rolling_is_no_way_to_more_rights(self) -> None:
        strong = make_key(scopes=["*"])
        granter = Granter(Scope(None, is_sandbox=False), frozenset({"keys:write"}))
        with pytest.raises(Forbidden):
            keys.roll(strong.key, 0, granter)
        assert actions(strong.key) == ["api_key.created"]

    def test_staff_pass_on_what_their_permissions_stand_for(self) -> None:
        user = make_user(permissions=["external_apis.view_externalapi", "external_apis.add_apikey"])
        assert granter_of(user, Scope()).scopes == {"providers:read"}
        assert "*" in granter_of(make_user(is_superuser=True), Scope()).scopes

    def test_an_owner_of_another_tenant_is_missing(self) -> None:
        tenant, other = make_tenant(), make_tenant()
        mine, foreign = make_user(tenant=tenant), make_user(tenant=other)
        made = make_key(tenant=tenant, owner_id=mine.external_apis_account.pk)
        assert made.key.owner == mine.external_apis_account
        with pytest.raises(NotFound):
            make_key(tenant=tenant, owner_id=foreign.external_apis_account.pk)

    def test_a_scope_sees_the_keys_of_its_tenant_and_mode(self) -> None:
        tenant = make_tenant()
        live, test = make_key(tenant=tenant).key, make_key(tenant=tenant, mode="test").key
        make_key()
        make_key(tenant=make_tenant())
        assert list(keys.visible(Scope(tenant.pk))) == [test, live]
        assert list(keys.visible(Scope(tenant.pk, is_sandbox=True))) == [test]
        for reference in (live.pk, "apk_missing", "a\0b", "\ud800"):
            with pytest.raises(NotFound):
                keys.find(reference, Scope(tenant.pk, is_sandbox=True))


class TestEnding:
    def test_revoking_in_some_seconds(self) -> None:
        made = make_key()
        with time_machine.travel(timezone.now(), tick=False) as clock:
            keys.revoke(made.key, 30)
            clock.shift(29)
            assert keys.verify(made.token).is_valid
            clock.shift(1)
            assert keys.verify(made.token).problem == "The API key has been revoked."
        assert actions(made.key) == ["api_key.created", "api_key.revoked"]

    def test_a_revocation_is_only_ever_brought_forward(self) -> None:
        key = make_key().key
        keys.revoke(key, 60)
        with pytest.raises(Conflict):
            keys.revoke(key, 3600)
        keys.revoke(key)
        with pytest.raises(Conflict):
            keys.revoke(key)

    @pytest.mark.parametrize("seconds", [-1, 366 * 86_400 + 1])
    def test_a_time_out_of_bounds_is_named(self, seconds: int) -> None:
        for end in (keys.revoke, keys.roll):
            with pytest.raises(InvalidInput):
                end(make_key().key, seconds)

    def test_a_rolled_key_hands_its_rights_on(self) -> None:
        rights = {
            "tenant": make_tenant(),
            "scopes": ["connections:read", "proxy"],
            "allowed_networks": ["10.0.0.0/8"],
            "rate_limit": 7,
            "expires_at": timezone.now() + timedelta(days=9),
            "service": "billing",
        }
        made = make_key(title="Billing", mode="test", **rights)
        with time_machine.travel(timezone.now(), tick=False) as clock:
            rolled = keys.roll(made.key, overlap_seconds=60)
            assert rolled.token != made.token
            copied = (
                "title",
                "type",
                "mode",
                "tenant",
                "service",
                "scopes",
                "allowed_networks",
                "rate_limit",
                "expires_at",
            )
            assert [getattr(rolled.key, name) for name in copied] == [getattr(made.key, name) for name in copied]
            assert rolled.key.rolled_from == made.key
            assert keys.verify(made.token).is_valid
            assert keys.verify(rolled.token).is_valid
            clock.shift(60)
            assert not keys.verify(made.token).is_valid
            assert keys.verify(rolled.token).is_valid
        assert actions(made.key) == ["api_key.created", "api_key.rolled"]
        assert actions(rolled.key) == ["api_key.created"]

    def test_a_key_is_rolled_once(self) -> None:
        key = make_key().key
        keys.roll(key, 60)
        with pytest.raises(Conflict):
            keys.roll(key, 60)
        assert ApiKey.objects.count() == 2

    def test_an_expired_key_is_not_rolled(self) -> None:
        key = make_key(expires_at=timezone.now() + timedelta(seconds=10)).key
        with time_machine.travel(timezone.now() + timedelta(seconds=11)), pytest.raises(Conflict):
            keys.roll(key)

    def test_only_a_dead_key_is_deleted(self) -> None:
        made = make_key()
        with pytest.raises(Conflict):
            keys.delete(made.key)
        keys.revoke(made.key, 60)
        with pytest.raises(Conflict):
            keys.delete(made.key)
        with time_machine.travel(timezone.now() + timedelta(seconds=61)):
            keys.delete(made.key)
        assert not ApiKey.objects.exists()
        assert "api_key.deleted" in actions(made.key)

    def test_renaming_changes_the_title_alone(self) -> None:
        key = make_key().key
        assert keys.rename(key, {"title": "Other"}).title == "Other"
        with pytest.raises(InvalidInput):
            keys.rename(key, {"title": "Other", "scopes": ["*"]})
        event = AuditEvent.objects.get(action="api_key.updated")
        assert event.changes == {"title": [key.title, "Other"]}

    def test_a_shredded_tenants_keys_end(self) -> None:
        tenant = make_tenant()
        made, other = make_key(tenant=tenant), make_key(tenant=make_tenant())
        shred(tenant)
        assert keys.verify(made.token).problem == "The API key has been revoked."
        assert keys.verify(other.token).is_valid


class TestVerifying:
    def test_facts_without_the_digest(self) -> None:
        made = make_key(title="Mine")
        outcome = keys.verify(made.token)
        assert outcome.is_valid
        assert outcome.key == made.key
        assert find_by_token(made.token).holder.title == "Mine"  # type: ignore[union-attr]
        assert "digest" not in str(find_by_token(made.token))

    def test_a_foreign_key_is_as_good_as_none(self) -> None:
        made, scope = make_key(tenant=make_tenant()), Scope(make_tenant().pk)
        assert keys.verify(made.token, scope) == keys.verify("sk_live_x", scope) == keys.verify("", scope)

    def test_each_reason(self) -> None:
        tenant = make_tenant()
        user = make_user(tenant=tenant)
        made = make_key(tenant=tenant, owner_id=user.external_apis_account.pk, expires_at=_in_a_minute())
        with time_machine.travel(timezone.now() + timedelta(seconds=61)):
            assert "expired" in keys.verify(made.token).problem
        user.is_active = False
        user.save()
        assert "owner" in keys.verify(made.token).problem
        tenant.is_active = False
        tenant.save()
        assert "tenant" in keys.verify(made.token).problem


def _in_a_minute() -> datetime:
    return timezone.now() + timedelta(seconds=60)


@pytest.mark.django_db(transaction=True)
def test_processes_that_make_the_first_key_at_once_share_one_secret() -> None:
    """And of two that roll one key at once, one does."""
    barrier, made, problems = threading.Barrier(4), [], []

    def make() -> None:
        barrier.wait()
        made.append(make_key().token)
        connection.close()

    def roll(key: ApiKey) -> None:
        barrier.wait()
        try:
            keys.roll(key, 60)
        except Conflict as error:
            problems.append(error)
        connection.close()

    _together(make)
    assert DigestSecret.objects.count() == 1
    assert all(find_by_token(token) for token in made)
    key = ApiKey.objects.first()
    assert key is not None
    _together(lambda: roll(key))
    assert len(problems) == 3
    assert key.rolled_to.count() == 1


def _together(target: Any) -> None:
    threads = [threading.Thread(target=target) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
