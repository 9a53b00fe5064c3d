"""Blnk Core as the authority of keys."""
