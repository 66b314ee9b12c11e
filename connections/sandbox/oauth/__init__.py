"""The sandbox's authorization server: OAuth 2.0 (RFC 6749 and its relatives) and OAuth 1.0a (RFC 5849).

It is strict with everybody and badly behaved on request: ``POST /_sandbox/oauth`` registers a client with redirect
URIs, lives of tokens, quirks and failures of its own, so that tests beside each other do not disturb one another.
"""
