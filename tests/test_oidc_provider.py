"""The OpenID provider that other tests rely on."""

from __future__ import annotations

import jwt
import pytest

from tests.oidc_provider import OidcProvider

CALLBACK = "http://localhost:1/callback"


def decoded(provider: OidcProvider, token: str, audience: str) -> dict[str, object]:
    document = provider.get(f"{provider.issuer}/.well-known/openid-configuration")
    keys = jwt.PyJWKSet.from_dict(provider.get(document["jwks_uri"]))
    header = jwt.get_unverified_header(token)
    claims: dict[str, object] = jwt.decode(
        token, keys[header["kid"]], algorithms=[header["alg"]], audience=audience, issuer=document["issuer"]
    )
    return claims


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("public", [False, True])
def test_the_code_flow_gives_signed_claims(oidc_provider: OidcProvider, algorithm: str, public: bool) -> None:
    client = oidc_provider.register([CALLBACK], algorithm=algorithm, public=public)
    subject = oidc_provider.add_user("ann", email="ann@example.com", email_verified=True, groups=["staff"])
    claims = decoded(oidc_provider, oidc_provider.id_token(client, "ann", nonce="n"), client.client_id)
    assert (claims["sub"], claims["nonce"], claims["groups"]) == (subject, "n", ["staff"])


def test_a_client_gets_a_token_of_its_own_for_an_audience(oidc_provider: OidcProvider) -> None:
    client = oidc_provider.register(grant="client-credentials", tenant="north")
    claims = decoded(oidc_provider, oidc_provider.client_token(client, audience="our-api"), "our-api")
    assert (claims["sub"], claims["scope"], claims["tenant"]) == (client.client_id, "read", "north")


def test_a_rotated_key_signs_from_now_on_and_an_unpublished_one_fits_nothing(oidc_provider: OidcProvider) -> None:
    claims = {"iss": oidc_provider.issuer, "aud": "a", "exp": 2**40}
    old = oidc_provider.sign(claims)
    oidc_provider.rotate_key()
    assert decoded(oidc_provider, old, "a") == claims
    assert decoded(oidc_provider, oidc_provider.sign(claims), "a") == claims
    with pytest.raises(jwt.InvalidSignatureError):
        decoded(oidc_provider, oidc_provider.sign(claims, key="foreign"), "a")
    oidc_provider.rotate_key(keep_old=False)
    with pytest.raises(KeyError):
        decoded(oidc_provider, oidc_provider.sign(claims, key="retired"), "a")


def test_forged_tokens_are_what_they_claim_to_be(oidc_provider: OidcProvider) -> None:
    claims = {"iss": oidc_provider.issuer, "sub": "1"}
    for algorithm in ("none", "HS256"):
        token = oidc_provider.sign(claims, algorithm=algorithm)
        assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert oidc_provider.sign(claims, algorithm="none").endswith(".")
