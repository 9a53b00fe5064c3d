"""The audit trail as values: who changed what, when, and by which way."""

from gateway.audit.actor import THE_GATEWAY, Actor, Way
from gateway.audit.entry import AuditEntry, Kind, decode_entry, encode_entry

__all__ = ["THE_GATEWAY", "Actor", "AuditEntry", "Kind", "Way", "decode_entry", "encode_entry"]
