"""How fast the gateway is, beside nginx and a plain aiohttp proxy: `python3 -m tests.bench`."""
