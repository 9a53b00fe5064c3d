"""Telemetry for operators: one log line for each request, application events, metrics."""

from gateway.telemetry.access_log import AccessEntry
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics, Sources
from gateway.telemetry.sink import open_sink

__all__ = ["AccessEntry", "Log", "Metrics", "Sources", "open_sink"]
