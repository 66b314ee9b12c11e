"""Moving in from social-auth-app-django and django-allauth: their tables, read as they are in an existing database."""
