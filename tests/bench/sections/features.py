"""The section `features`: what each feature that is off by default costs when it is on.

Rules kept here:
- Every gateway uses Redis and a key of its own there, so that they differ in nothing but the feature.
- What is compared runs in the same rounds; a figure is the difference to the gateway as it ships.
- No request is sampled by tracing: that would measure the collector as well.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from gateway.policy.terms import NO_TERMS, KeyTerms, Rate, read_network
from tests.bench.gateways import Gateway, Wanted, start_gateway
from tests.bench.messages import GET, POST
from tests.bench.processes import find
from tests.bench.report import Result, disturbance
from tests.bench.samples import Samples, as_json, compare, cpu_of
from tests.bench.sections.context import Context
from tests.bench.servers import Stage, StartError
from tests.bench.store import INSTALL, key, start_store
from tests.bench.tables import Column, markdown
from tests.bench.upstream import start_upstream

BASE = "as it ships"
_CALLS = (GET, POST)
# So high that no load reaches it.
_RATE = Rate(1_000_000)
_COLLECTOR = "http://127.0.0.1:9/v1/traces"  # nobody listens there, so nothing is exported
_COLUMNS = (
    Column("feature", is_text=True),
    *(
        column
        for call in _CALLS
        for column in (Column(f"{call.name}, CPU us"), Column("more"), Column("least-most"))
    ),
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature by the name that the table shows: its settings, and the terms of the key."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    terms: KeyTerms = NO_TERMS
    scheme: str = "http"


def _features(certificate: Path, secret: Path) -> Sequence[Feature]:
    tracing = {"BLNK_GATEWAY_TRACING__ENDPOINT": _COLLECTOR}
    tls = {"BLNK_GATEWAY_TLS__CERTIFICATE": str(certificate), "BLNK_GATEWAY_TLS__KEY": str(secret)}
    return (
        Feature(BASE),
        Feature("limits.rate", {"BLNK_GATEWAY_LIMITS__RATE": str(_RATE)}),
        Feature("rate of the key", terms=KeyTerms(rate=_RATE)),
        Feature("concurrency of the key", terms=KeyTerms(concurrency=1_000)),
        Feature("networks of the key", terms=KeyTerms(allow_from=(read_network("127.0.0.0/8"),))),
        Feature("tracing, not sampled", tracing | {"BLNK_GATEWAY_TRACING__RATIO": "0"}),
        Feature("TLS", tls, scheme="https"),
    )


def features(context: Context) -> Result:
    """Measure every feature in turn. Raises StartError, LoadError."""
    title = "Features"
    if find("redis-server") is None:
        return Result(title, [f"Not measured: redis-server is not installed: {INSTALL}."])
    lines: list[str] = []
    samples: Samples = {}
    for gateway in context.options.gateways:
        found = _measured(context, gateway)
        lines += ["", f"**{gateway.name}.** {disturbance(found)}", "", *_table(found)]
        samples |= {(f"{gateway.name}, {server}", call): rounds for (server, call), rounds in found.items()}
    return Result(title, lines, (), {"samples": as_json(samples)})


def _measured(context: Context, gateway: Gateway) -> Samples:
    with Stage.opened(context.cores) as stage:
        upstream = start_upstream(stage)
        store = start_store(stage, "redis")
        folder = stage.folder_of("tls")
        servers = []
        for number, feature in enumerate(_features(*_certificate(folder))):
            store.put(number, feature.terms)
            wanted = Wanted(
                name=feature.name,
                store=store.url,
                settings=feature.settings,
                key=key(number),
                scheme=feature.scheme,
            )
            servers.append(start_gateway(stage, gateway, upstream.port, wanted))
        loads = [(server, call) for call in _CALLS for server in servers]
        return compare(loads, context.amount(), context.teller(f"features, {gateway.name}"))


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate and its key. Raises StartError."""
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    program = shutil.which("openssl")
    if program is None:
        raise StartError("openssl is not installed: sudo apt-get install --yes openssl")
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=localhost", "-days", "2", "-keyout", str(secret), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, secret


def _table(samples: Samples) -> Sequence[str]:
    names = list(dict.fromkeys(server for server, _ in samples))

    def cells(name: str, call: str) -> list[str]:
        spent = cpu_of(samples, name, call)
        more = [on - off for on, off in zip(spent, cpu_of(samples, BASE, call), strict=True)]
        return [f"{median(spent):.1f}", f"{median(more):+.1f}", f"{min(more):+.1f} to {max(more):+.1f}"]

    rows = [[name, *(cell for call in _CALLS for cell in cells(name, call.name))] for name in names]
    return list(markdown(_COLUMNS, rows))
