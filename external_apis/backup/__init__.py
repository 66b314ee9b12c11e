"""Backups: everything that the database holds, encrypted under a passphrase, and back (see docs/backup-format.md)."""
