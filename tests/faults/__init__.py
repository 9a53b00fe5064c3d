"""Responses that clients get while each dependency of the gateway is killed, stalled or corrupted under load."""
