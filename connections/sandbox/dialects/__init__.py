"""A few calls of well-known providers, in their own shapes, for their official SDKs: small and strict."""
