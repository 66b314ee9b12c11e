"""The backoffice's admin pages, of which there are none where it is switched off."""
