"""How long a revoked key lives, with three gateways on one Redis and failures of everything between them."""
