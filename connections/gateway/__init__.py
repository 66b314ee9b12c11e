"""The gateway: other programs call providers through a connection, with a key of ours in the place of the secret."""
