"""One request: authenticate, authorize, limit, stamp, forward, record."""
