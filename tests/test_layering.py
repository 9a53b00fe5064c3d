"""Imports only point down: errors and redis_url, policy, then keys, wire and stamping, proxy, server, cli.

Rules kept here:
- A module imports its own wing and what stands on a lower floor, never a neighbour's wing or above.
- `policy` and the pure modules know nothing of the network, files, clocks or the event loop.
- The environment is read in `cli` and `config` only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import ROOT

FLOORS = (
    {"errors", "exits", "json_text", "loop", "redis_url", "shares", "start_signals"},
    {"policy"},
    {"keys", "wire", "stamping", "config", "telemetry", "limits"},
    {"context"},
    {
        "judgement",
        "streaming",
        "stamp_lane",
        "descriptors",
        "private_server",
        "revocation_notice",
        "sockets",
    },
    {"forwarding", "startup", "admin", "reload", "scopes_page", "store_watch", "listeners"},
    {"proxy", "live_policy", "dependencies"},
    {"observing"},
    {"server"},
    {"lifecycle"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {wing: number for number, floor in enumerate(FLOORS) for wing in floor}
# What a wing may import of a neighbour on its own floor.
NEIGHBOURS: dict[str, set[str]] = {}

IMPURE = {
    "aiohttp", "asyncio", "click", "datetime", "hiredis", "httptools", "io", "logging", "os", "pathlib",
    "random", "redis", "secrets", "socket", "structlog", "subprocess", "sys", "threading", "time", "uvloop",
    "yaml",
}  # fmt: skip
PURE = (
    "errors.py", "redis_url.py", "shares.py", "policy/*.py", "stamping.py", "json_text.py", "limits.py",
    "keys/minting.py",
    "wire/headers.py",
)  # fmt: skip
MODULES = sorted((ROOT / "gateway").rglob("*.py"))


@dataclass(frozen=True, slots=True)
class Import:
    """One import: the module's dotted name, and where it stands."""

    name: str
    place: str

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def wing(self) -> str:
        """The wing of a name such as `gateway.policy.scopes`; empty for the package itself."""
        return [*self.name.split("."), ""][1]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def wing_of(path: Path) -> str:
    return path.relative_to(ROOT / "gateway").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[Import]:
    """Every import of a module, also those within functions."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, f"{name_of(path)}:{node.lineno}")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}" if node.module == "gateway" else str(node.module)
                yield Import(whole, f"{name_of(path)}:{node.lineno}")


def every(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=name_of(path)) for path in paths]


@pytest.mark.parametrize("path", every([path for path in MODULES if wing_of(path) != "__init__"]))
def test_imports_point_down(path: Path) -> None:
    """No module imports a wing on its own floor or above."""
    wing = wing_of(path)
    assert wing in FLOOR_OF, f"gateway/{wing} stands on no floor: name it in FLOORS"
    allowed = {wing, ""} | NEIGHBOURS.get(wing, set())
    allowed |= {below for below, floor in FLOOR_OF.items() if floor < FLOOR_OF[wing]}
    upward = [
        f"{found.place} imports {found.name}"
        for found in imports(path)
        if found.top == "gateway" and found.wing not in allowed
    ]
    assert upward == []


@pytest.mark.parametrize(
    "path", every([path for pattern in PURE for path in sorted((ROOT / "gateway").glob(pattern))])
)
def test_pure_modules_import_nothing_impure(path: Path) -> None:
    """What decides and rewrites needs no I/O, clock, randomness or event loop to be tested."""
    assert [f"{found.place} imports {found.name}" for found in imports(path) if found.top in IMPURE] == []


def test_every_pure_module_is_there() -> None:
    """A renamed module must not fall out of the test above unseen."""
    assert [pattern for pattern in PURE if not list((ROOT / "gateway").glob(pattern))] == []


@pytest.mark.parametrize("path", every([path for path in MODULES if wing_of(path) not in ("cli", "config")]))
def test_the_environment_is_read_at_the_edge(path: Path) -> None:
    """`os.environ` and `os.getenv` stand in `cli` and `config` alone."""
    read = [
        f"{name_of(path)}:{node.lineno}"
        for node in ast.walk(ast.parse(path.read_bytes()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and "environ" in str(node.names))
    ]
    assert read == []


def test_allow_is_built_on_one_line() -> None:
    """Default deny: a second place that builds `Allow` would be a second policy."""
    built = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Allow"
    ]
    assert [place.partition(":")[0] for place in built] == ["gateway/policy/decisions.py"]
