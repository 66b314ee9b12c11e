"""OAuth: how grants are won, renewed and ended (RFC 6749), for providers that are rows in the database."""
