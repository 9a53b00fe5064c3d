"""The life of a revoked key, with three gateways on one Redis and failures of everything between them."""
