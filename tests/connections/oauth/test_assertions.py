"""Connections of robots, which prove themselves with a private key: tokens as fresh as anybody's, at the sandbox."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.utils import timezone
from jwt.algorithms import RSAAlgorithm

from connections import services
from connections.models import ConnectionStatus, ExternalApiConnection, Grant, GrantState
from connections.oauth.sweep import sweep
from external_apis.errors import ConnectionExpired
from tests.authority import Authority
from tests.factories import make_connection, make_provider
from tests.grants import grant_of, kinds, secrets_of, stored

pytestmark = pytest.mark.django_db(transaction=True)

ROBOT = "robot-of-connections"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


@pytest.fixture
def row(authority: Authority, key: rsa.RSAPrivateKey) -> ExternalApiConnection:
    _register(authority, key)
    config = {
        "base_url": f"{authority.url}/auth/oauth2",
        "auth_type": "jwt_bearer",
        "test_path": "/me",
        "jwt_bearer": {"token_url": f"{authority.url}/oauth/token", "issuer": ROBOT, "scopes": ["read"]},
    }
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    return make_connection(
        make_provider(environment="development", api_config=config), credentials={"private_key": pem}
    )


def _register(authority: Authority, key: rsa.RSAPrivateKey) -> None:
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    authority.sandbox.register(ROBOT, rsa_key={name: public[name] for name in ("n", "e")})


def test_the_first_use_fetches_a_token_and_the_sweep_renews_it(row: ExternalApiConnection) -> None:
    assert set(secrets_of(row)) == {"private_key"}
    for _ in range(2):
        assert services.get_api_client(row.pk).get("/me").status_code == 200
    first = secrets_of(row)["access_token"]
    assert services.get_connection(row.pk).credentials["access_token"] == first
    due_at, expires_at = grant_of(row).due_at, stored(row).credential.expires_at
    assert due_at is not None
    assert expires_at is not None
    assert timezone.now() < due_at < expires_at
    assert kinds(row) == ["refreshed"]
    Grant.objects.filter(pk=row.pk).update(due_at=timezone.now())
    assert sweep().renewed == 1
    second = secrets_of(row)["access_token"]
    assert second != first
    assert services.refresh_token(row.pk).credential.secrets["access_token"] not in (first, second)
    assert set(secrets_of(row)) == {"private_key", "access_token"}


def test_a_token_that_the_api_refuses_is_replaced(row: ExternalApiConnection) -> None:
    services.update_connection(row, {"credentials": {"access_token": "no-token-of-theirs"}})
    assert services.get_api_client(row.pk).get("/me").status_code == 200
    assert secrets_of(row)["access_token"] != "no-token-of-theirs"


def test_a_key_that_is_not_theirs_any_more_ends_the_connection(
    authority: Authority, row: ExternalApiConnection
) -> None:
    services.get_api_client(row.pk)
    _register(authority, rsa.generate_private_key(public_exponent=65_537, key_size=2048))
    with pytest.raises(ConnectionExpired):
        services.refresh_token(row.pk)
    assert (stored(row).status, grant_of(row).state) == (ConnectionStatus.EXPIRED, GrantState.ENDED)
