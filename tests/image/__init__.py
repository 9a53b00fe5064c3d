"""Builds the image without a daemon, and tries what was built: `python3 -m tests.image`."""
