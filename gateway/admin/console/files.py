"""The files of the console's page.

Rules kept here:
- The browser may load scripts, styles and data from this listener only, runs no inline script, and turns no
  text into HTML (Content Security Policy Level 3, Trusted Types). No other page may frame this one.
- The files hold no data, so they need no token: a browser cannot send one before the page asks for it.
"""

from __future__ import annotations

from importlib import resources
from types import MappingProxyType
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

PAGE: Final = "/console"
_TYPES: Final = MappingProxyType(
    {
        PAGE: ("console.html", "text/html; charset=utf-8"),
        f"{PAGE}/console.css": ("console.css", "text/css; charset=utf-8"),
        f"{PAGE}/console.js": ("console.js", "text/javascript; charset=utf-8"),
        f"{PAGE}/console.svg": ("console.svg", "image/svg+xml"),
    }
)
FILES: Final = frozenset(_TYPES)
"""The paths of the files."""
_HEADERS: Final = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
)


def file_handler(path: str) -> Handler:
    """Return what responds with the file at one of `FILES`; the file is read once, here."""
    name, content_type = _TYPES[path]
    body = resources.files(__package__).joinpath(name).read_bytes()

    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    return respond
