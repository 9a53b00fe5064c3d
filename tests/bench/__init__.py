"""The speed of the gateway, compared with nginx and a plain aiohttp proxy: `python3 -m tests.bench`."""
