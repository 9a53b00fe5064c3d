"""Blnk Gateway: an auth gateway in front of a Blnk Core ledger."""
