"""What clients see of Go: RFC 3339 times, texts of JSON syntax errors. Pure."""
