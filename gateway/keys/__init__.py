"""Who is calling: minting, storing and caching keys, and the `/api-keys` resource."""
