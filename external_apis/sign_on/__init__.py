"""Staff sign in at the organisation's own OpenID Connect provider (``OIDC_ISSUER``), and what is noted of sign-ins.

social-auth-app-django does the protocol (OpenID Connect Core 1.0, code flow with PKCE, state and nonce in its tables);
which account a person gets, and with which rights, is decided in `accounts` by the provider's claims alone.
"""
