"""The `/api-keys` resource."""
