"""How the admin writes dates and times, by language; Django finds these through ``FORMAT_MODULE_PATH``."""
