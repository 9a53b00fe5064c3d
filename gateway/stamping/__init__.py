"""The caller's key id into a JSON body, every other byte as it came. Pure."""
