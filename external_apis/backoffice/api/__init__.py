"""The backoffice under ``/api/external``: one file for each resource, as in `external_apis.admin_api`."""
