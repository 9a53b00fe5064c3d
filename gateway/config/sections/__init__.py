"""The sections of gateway.yaml, each with its settings."""
