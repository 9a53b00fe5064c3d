"""Keys: make, store, cache and look them up, and the `/api-keys` resource."""
