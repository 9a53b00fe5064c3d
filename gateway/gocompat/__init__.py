"""Compatibility with Go as clients see it: RFC 3339 times and the texts of JSON syntax errors. Pure."""
