"""Measures what a limit lets through that three gateways share."""
