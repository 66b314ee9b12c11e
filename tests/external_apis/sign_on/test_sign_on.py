"""Who gets in through the organisation's provider, as whom, and with which rights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone
from social_django.models import UserSocialAuth

from external_apis.models import AuditEvent
from external_apis.sign_on.accounts import DEFAULT_GROUP, admit
from external_apis.tenancy import scope_of
from tests.external_apis.sign_on.conftest import SignOn
from tests.factories import make_tenant, make_user

pytestmark = pytest.mark.django_db

Make = Callable[..., SignOn]


def person(flow: SignOn, name: str, **claims: Any) -> str:
    """Somebody at the provider: staff with a verified address, unless claims say otherwise."""
    email = {"email": f"{name}@example.com", "email_verified": True}
    return flow.provider.add_user(name, **{"preferred_username": name, "groups": ["staff"], **email, **claims})


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", flat=True))


def test_a_new_person_of_staff_gets_an_account_and_lands_where_they_wanted(sign_on: Make) -> None:
    flow = sign_on()
    person(flow, "ann", given_name="Ann", family_name="Arbor")
    answer = flow.sign_in("ann", "/admin/sign-on?next=/admin/external_apis/externalapi/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/external_apis/externalapi/")
    assert flow.is_in
    user = User.objects.get()
    assert (user.username, user.email, user.get_full_name()) == ("ann", "ann@example.com", "Ann Arbor")
    assert (user.is_staff, user.is_superuser, user.has_usable_password()) == (True, False, False)
    assert [group.name for group in user.groups.all()] == [DEFAULT_GROUP]
    assert user.has_perms(["external_apis.add_externalapi", "connections.change_externalapiconnection"])
    assert not user.has_perm("auth.change_user")
    assert actions() == ["user.created", "user.signed_in"]
    assert AuditEvent.objects.latest("pk").actor == "user:ann"
    assert flow.browser.get("/admin/external-apis").status_code == 200, "the session serves REST too"


def test_the_same_person_keeps_the_account_whatever_else_changes(sign_on: Make) -> None:
    flow = sign_on()
    person(flow, "bea")
    flow.sign_in("bea")
    person(flow, "bea", email="married@example.com", preferred_username="bea2")
    flow.browser = Client()
    flow.sign_in("bea")
    assert User.objects.get().username == "bea"
    assert UserSocialAuth.objects.get().extra_data == {}, "no token is stored"


def test_a_session_from_the_provider_ends_after_half_a_day_and_holds_no_token_in_clear(sign_on: Make) -> None:
    flow = sign_on()
    person(flow, "cem")
    flow.sign_in("cem")
    session = Session.objects.get(session_key=flow.browser.session.session_key)
    assert session.expire_date < timezone.now() + timedelta(hours=12, minutes=1)
    assert "eyJ" not in str(session.get_decoded())


def test_only_the_claim_makes_staff(sign_on: Make) -> None:
    flow = sign_on()
    for name, groups in (
        ("dan", []),
        ("eva", ["staffers"]),
        ("fay", "staffing"),
        ("gus", {"staff": True}),
        ("hal", None),
    ):
        person(flow, name, groups=groups)
        answer = flow.sign_in(name)
        assert answer.status_code == 403
        assert "not one of this product&#x27;s staff" in answer.content.decode()
    assert not User.objects.exists()
    assert not flow.is_in
    assert actions() == ["user.refused"] * 5


def test_a_claim_may_lie_deep_and_be_a_flag(sign_on: Make) -> None:
    flow = sign_on(OIDC_STAFF_CLAIM="realm_access.roles", OIDC_STAFF_VALUE="ops")
    person(flow, "ida", realm_access={"roles": ["ops"]})
    assert flow.sign_in("ida").status_code == 302
    flow = sign_on(OIDC_STAFF_CLAIM="is_staff", OIDC_STAFF_VALUE="true")
    person(flow, "jon", is_staff=True)
    assert flow.sign_in("jon").status_code == 302
    person(flow, "kim", is_staff=1)
    assert sign_on(OIDC_STAFF_CLAIM="is_staff", OIDC_STAFF_VALUE="true").sign_in("kim").status_code == 403


def test_a_withdrawn_claim_takes_the_rights_at_the_next_sign_in(sign_on: Make) -> None:
    flow = sign_on(OIDC_SUPERUSER_VALUE="root")
    person(flow, "lea", groups=["root"])
    flow.sign_in("lea")
    user = User.objects.get()
    assert (user.is_staff, user.is_superuser) == (True, True)
    person(flow, "lea", groups=["staff"])
    old, flow.browser = flow.browser, Client()
    flow.sign_in("lea")
    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser) == (True, False)
    person(flow, "lea", groups=[])
    flow.browser = Client()
    assert flow.sign_in("lea").status_code == 403
    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert old.get("/admin/").status_code == 302, "older sessions have lost them too"
    assert actions().count("user.rights_changed") == 2


def test_without_a_staff_claim_nobody_new_comes_in_and_staff_that_is_known_does(sign_on: Make) -> None:
    flow = sign_on(OIDC_STAFF_CLAIM="")
    person(flow, "mia")
    assert flow.sign_in("mia").status_code == 403
    known = make_user("mia", email="mia@example.com")
    flow.browser = Client()
    assert flow.sign_in("mia").status_code == 302
    assert UserSocialAuth.objects.get().user == known


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_address_that_is_not_verified_neither_makes_nor_links_an_account(sign_on: Make, verified: Any) -> None:
    flow = sign_on()
    victim = make_user("boss", email="boss@example.com", is_superuser=True)
    person(flow, f"eve{verified}", email="boss@example.com", email_verified=verified)
    answer = flow.sign_in(f"eve{verified}")
    assert answer.status_code == 403
    assert "has not verified your e-mail address" in answer.content.decode()
    assert list(User.objects.all()) == [victim]
    assert not UserSocialAuth.objects.exists()


@pytest.mark.parametrize(
    ("signed", "told"),
    [
        ({"email": "boss@example.com", "email_verified": None}, {"email_verified": True}),
        ({"email": None, "email_verified": True}, {"email_verified": None}),
    ],
)
def test_an_address_and_its_being_verified_come_from_one_document(
    sign_on: Make, signed: dict[str, Any], told: dict[str, Any]
) -> None:
    flow = sign_on()
    victim = make_user("boss", email="boss@example.com", is_superuser=True)
    person(flow, f"eve-of-{len(told)}-{signed['email']}", **{"email": "boss@example.com", **told})
    flow.provider.tamper(flow.registered, **signed)
    answer = flow.sign_in(f"eve-of-{len(told)}-{signed['email']}")
    assert answer.status_code == 403
    assert "has not verified your e-mail address" in answer.content.decode()
    assert list(User.objects.all()) == [victim]


def test_a_verified_address_leads_to_the_one_account_that_has_it(sign_on: Make) -> None:
    flow = sign_on()
    known = make_user("nia", email="Nia@Example.com")
    person(flow, "nia-at-provider", email="nia@example.com")
    flow.sign_in("nia-at-provider")
    assert UserSocialAuth.objects.get().user == known
    known.refresh_from_db()
    assert known.has_usable_password()
    # Somebody else who comes to own the address gets an account of their own.
    person(flow, "successor", email="nia@example.com")
    flow.browser = Client()
    flow.sign_in("successor")
    assert UserSocialAuth.objects.count() == 2
    assert User.objects.exclude(pk=known.pk).get().username == "successor"


def test_an_address_of_two_accounts_leads_to_neither(sign_on: Make) -> None:
    flow = sign_on()
    for name in ("one", "two"):
        make_user(name, email="shared@example.com")
    person(flow, "oli", email="shared@example.com")
    flow.sign_in("oli")
    assert UserSocialAuth.objects.get().user.username == "oli"


def test_a_known_account_loses_nothing_to_somebody_who_is_no_staff(sign_on: Make) -> None:
    flow = sign_on()
    known = make_user("pia", email="pia@example.com", is_superuser=True)
    person(flow, "pia", groups=[])
    assert flow.sign_in("pia").status_code == 403
    known.refresh_from_db()
    assert (known.is_staff, known.is_superuser) == (True, True)
    assert not UserSocialAuth.objects.exists()


def test_a_taken_name_is_not_taken_over(sign_on: Make) -> None:
    flow = sign_on()
    make_user("admin", is_superuser=True)
    person(flow, "quirin", preferred_username="ADMIN")
    flow.sign_in("quirin")
    made = UserSocialAuth.objects.get().user
    assert made.username.startswith("ADMIN-")
    assert not made.is_superuser


def test_a_provider_that_never_says_verified_can_be_trusted_by_the_operator(sign_on: Make) -> None:
    flow = sign_on(OIDC_TRUST_EMAIL=True)
    person(flow, "rex", email_verified=None)
    assert flow.sign_in("rex").status_code == 302


def test_the_tenant_comes_from_the_claim(sign_on: Make) -> None:
    north, south = make_tenant("north"), make_tenant("south")
    flow = sign_on(OIDC_TENANT_CLAIM="tenant", OIDC_SUPERUSER_VALUE="root")
    person(flow, "sam", tenant="north")
    flow.sign_in("sam")
    user = User.objects.get()
    assert scope_of(user).tenant_id == north.pk
    assert AuditEvent.objects.filter(action="user.signed_in", tenant=north).count() == 1
    person(flow, "sam", tenant="south")
    flow.browser = Client()
    flow.sign_in("sam")
    assert scope_of(User.objects.get()).tenant_id == south.pk
    for claim in ("nowhere", None, ["north", "south"], {"slug": "north"}):
        person(flow, "sam", tenant=claim)
        flow.browser = Client()
        answer = flow.sign_in("sam")
        assert answer.status_code == 403
        assert "belongs to no tenant" in answer.content.decode()
    person(flow, "tom", tenant=None)
    assert flow.sign_in("tom").status_code == 403
    assert not User.objects.filter(username="tom").exists()
    person(flow, "root", groups=["root"], tenant=None)
    assert flow.sign_in("root").status_code == 302


def test_nobody_of_an_inactive_tenant_or_account_comes_in(sign_on: Make) -> None:
    tenant = make_tenant("closed")
    flow = sign_on(OIDC_TENANT_CLAIM="tenant")
    person(flow, "uwe", tenant="closed")
    flow.sign_in("uwe")
    tenant.is_active = False
    tenant.save()
    flow.browser = Client()
    assert flow.sign_in("uwe").status_code == 403
    tenant.is_active = True
    tenant.save()
    User.objects.update(is_active=False)
    flow.browser = Client()
    assert flow.sign_in("uwe").status_code == 403


@pytest.mark.django_db(transaction=True)
def test_one_person_in_several_tabs_gets_one_account(settings: Any) -> None:
    settings.OIDC_STAFF_CLAIM, settings.OIDC_STAFF_VALUE = "groups", "staff"
    claims = {"iss": "https://a.example", "sub": "1", "groups": ["staff"], "preferred_username": "tabs"}
    start = threading.Barrier(4)

    def come_in(_: int) -> Any:
        start.wait(5)
        try:
            return admit(claims).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as tabs:
        keys = list(tabs.map(come_in, range(4)))
    assert len(set(keys)) == 1
    assert (User.objects.count(), UserSocialAuth.objects.count()) == (1, 1)


def test_groups_may_come_from_a_claim(sign_on: Make) -> None:
    Group.objects.create(name="readers")
    Group.objects.create(name="writers")
    flow = sign_on(OIDC_GROUPS_CLAIM="groups")
    person(flow, "vic", groups=["staff", "readers"])
    flow.sign_in("vic")
    assert [group.name for group in User.objects.get().groups.all()] == ["readers"]
    person(flow, "vic", groups=["staff", "writers"])
    flow.browser = Client()
    flow.sign_in("vic")
    assert [group.name for group in User.objects.get().groups.all()] == ["writers"]


def test_a_public_client_and_other_algorithms_work_too(sign_on: Make) -> None:
    for name, options in (("wim", {"public": True}), ("xia", {"algorithm": "ES256"})):
        flow = sign_on(**options)
        person(flow, name)
        assert flow.sign_in(name).status_code == 302, name


def test_log_out_ends_both_sessions(sign_on: Make) -> None:
    flow = sign_on()
    person(flow, "zoe")
    flow.sign_in("zoe")
    assert flow.browser.get("/admin/logout/").status_code == 405
    answer = flow.browser.post("/admin/logout/")
    parts = urlsplit(answer["Location"])
    query = parse_qs(parts.query)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{flow.provider.issuer}/logout/"
    assert query["client_id"] == [flow.registered.client_id]
    assert query["post_logout_redirect_uri"][0].endswith("/admin/login/")
    assert query["id_token_hint"][0].count(".") == 2
    assert not flow.is_in
    assert actions()[-1] == "user.signed_out"


def test_log_out_without_such_a_place_or_with_the_provider_away_ends_ours(sign_on: Make, settings: Any) -> None:
    flow = sign_on()
    person(flow, "abe")
    for change in ("no endpoint", "away", "javascript"):
        flow.browser = Client()
        flow.sign_in("abe")
        if change == "no endpoint":
            flow.provider.change_metadata(end_session_endpoint=None)
        elif change == "javascript":
            flow.provider.change_metadata(end_session_endpoint="javascript:alert(1)")
        else:
            settings.OIDC_ISSUER = "http://127.0.0.1:1"
        answer = flow.browser.post("/admin/logout/")
        flow.provider.change_metadata()
        settings.OIDC_ISSUER = flow.provider.issuer
        assert answer["Location"] == "/admin/login/"
        assert not flow.is_in
    make_user("by-password")
    flow.browser.force_login(User.objects.get(username="by-password"))
    assert flow.browser.post("/admin/logout/")["Location"] == "/admin/login/"
