"""The audit trail as values: who changed what, when, and by which way."""

from gateway.audit.author import THE_GATEWAY, Author, Way
from gateway.audit.entry import AuditEntry, Kind, decode_entry, encode_entry

__all__ = ["THE_GATEWAY", "AuditEntry", "Author", "Kind", "Way", "decode_entry", "encode_entry"]
