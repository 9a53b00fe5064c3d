"""Bytes in, bytes out: HTTP/1.1 with clients and with Core."""
