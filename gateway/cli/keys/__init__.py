"""The `keys` commands: create, read, change, import and prune the keys in the key store."""
