"""How long a revoked key lives: three gateways on one Redis, and everything between them that can fail."""
