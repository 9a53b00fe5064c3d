"""What the gateway tells its operators: one log line per request, application events, metrics."""

from gateway.telemetry.lines import AccessEntry
from gateway.telemetry.log import AccessLog, configure_log, is_console
from gateway.telemetry.metrics import Metrics, Sources

__all__ = ["AccessEntry", "AccessLog", "Metrics", "Sources", "configure_log", "is_console"]
