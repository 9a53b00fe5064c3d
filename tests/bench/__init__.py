"""How fast the gateway is, compared with nginx and a plain aiohttp proxy: `python3 -m tests.bench`."""
