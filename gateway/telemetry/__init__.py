"""Telemetry for operators: one log line for each request, application events, metrics."""

from gateway.telemetry.access_log import AccessEntry
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Build, Metrics, Sources
from gateway.telemetry.sink import open_sink

__all__ = ["AccessEntry", "Build", "Log", "Metrics", "Sources", "open_sink"]
