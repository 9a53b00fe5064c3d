"""The upstream of all servers: nginx with fixed responses, and an echo that shows what reached it.

Rules kept here:
- A request with the header `X-Bench-Echo` gets as its response the headers and the body that reached the
  upstream. It is served in this process, and no load is sent with it.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.addresses import free_ports
from tests.bench.messages import COPIES, MASTER_KEY, RESPONSE
from tests.bench.processes import find
from tests.bench.servers import Server, Stage, filled

ECHO = {"X-Bench-Echo": "1"}


class _Echo(BaseHTTPRequestHandler):
    """Returns the headers and the body of a request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        text = json.dumps({"headers": headers, "body": body.decode()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running upstream."""

    server: Server

    @property
    def port(self) -> int:
        return self.server.port


def start_upstream(stage: Stage) -> Upstream:
    """Run the upstream on the core of the load until the stage ends. Raises StartError."""
    echo = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    stage.running.callback(echo.server_close)
    threading.Thread(target=echo.serve_forever, daemon=True).start()
    stage.running.callback(echo.shutdown)
    port, read = free_ports(2)
    folder = stage.folder_of("upstream")
    values = {
        "PORT": port,
        "READ": read,
        "ECHO": echo.server_port,
        "MASTER_KEY": MASTER_KEY,
        "RESPONSE": RESPONSE,
        "MANY": ",".join(["$one"] * COPIES),
    }
    config = filled("upstream.conf", folder, values)
    process = stage.run("upstream", nginx(folder, config), stage.cores.load, {})
    process.wait_until_proxied(port, MASTER_KEY)
    return Upstream(Server("direct", port, MASTER_KEY, (process.popen,)))


def nginx(folder: object, config: object) -> list[str]:
    """Return the command of an nginx with its files in `folder`."""
    return [find("nginx") or "nginx", "-p", f"{folder}", "-c", f"{config}", "-e", "stderr"]
