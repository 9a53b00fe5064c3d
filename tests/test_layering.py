"""Imports only point down: from `cli` over `server`, `proxy` and `keys` to `policy` and `errors`.

Rules kept here:
- A module imports its own package and packages of lower layers, never one of its own layer or above.
- Of `keys`, what lies in the package itself imports none of its parts; `redis` and `core` import nothing of
  each other. `keys.authorities` alone, which chooses between them, imports `api` and `core`.
- Pure packages import nothing for the network, files, clocks or the event loop.
- The environment is read in `cli` and `config` only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import ROOT

LAYERS = (
    {"errors", "durations", "ip_addresses", "socket_deadline"},
    {"policy", "gocompat", "fairness", "audit"},
    {"keys", "wire", "stamping", "telemetry"},
    {"config"},
    {"proxy"},
    {"admin"},
    {"server"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}
# The other parts of `keys` that each part may import.
PARTS_OF_KEYS: dict[str, set[str]] = {
    "": set(),
    "api": set(),
    "redis": set(),
    "core": {"api"},
    "authorities": {"api", "core"},
}

IMPURE = {
    "aiohttp", "asyncio", "click", "datetime", "hiredis", "io", "logging", "os", "pathlib", "random",
    "redis", "secrets", "socket", "structlog", "subprocess", "sys", "threading", "time", "uvloop",
    "yaml",
}  # fmt: skip
PURE = (
    "errors.py", "durations.py", "ip_addresses.py", "policy/*.py", "gocompat/*.py", "audit/*.py",
    "stamping/*.py", "fairness/shares.py",
    "keys/minting.py", "keys/redis/url.py", "proxy/body_budget.py",
    "wire/body_framing.py", "wire/grammar.py", "wire/head_faults.py", "wire/headers.py",
    "wire/request_head.py", "wire/request_headers.py", "wire/upstream_head.py",
    "telemetry/span_attributes.py", "telemetry/trace_context.py",
)  # fmt: skip
# Times are used as values; the clock is not read.
VALUES = {"gateway/gocompat/times.py": {"datetime"}}
MODULES = sorted((ROOT / "gateway").rglob("*.py"))


@dataclass(frozen=True, slots=True)
class Import:
    """An import: the module's dotted name, and its place as `file:line`."""

    name: str
    place: str

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def package(self) -> str:
        """The package of a name such as `gateway.policy.scopes`; empty for `gateway` itself."""
        return [*self.name.split("."), ""][1]

    @property
    def part(self) -> str:
        """The part of `keys` to which a name like `gateway.keys.redis.url` belongs, or an empty text."""
        return part_of(ROOT.joinpath(*self.name.split(".")))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "gateway").parts[0].removesuffix(".py")


def part_of(path: Path) -> str:
    """Return the part of `keys` that contains a module; empty for modules of `keys` itself."""
    part = path.relative_to(ROOT / "gateway" / "keys").parts[0].removesuffix(".py")
    return part if part in PARTS_OF_KEYS else ""


def imports(path: Path) -> Iterator[Import]:
    """Yield every import of a module, also those within functions."""
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


@pytest.mark.parametrize("path", every([path for path in MODULES if path.parent != ROOT / "gateway"]))
def test_imports_point_down(path: Path) -> None:
    """No module imports another package of its own layer or one above."""
    package = package_of(path)
    assert package in LAYER_OF, f"gateway/{package} is in no layer: name it in LAYERS"
    allowed = {package, ""} | {below for below, layer in LAYER_OF.items() if layer < LAYER_OF[package]}
    upward = [
        f"{found.place} imports {found.name}"
        for found in imports(path)
        if found.top == "gateway" and found.package not in allowed
    ]
    assert upward == []


@pytest.mark.parametrize("path", every([path for path in MODULES if package_of(path) == "keys"]))
def test_the_parts_of_keys_are_apart(path: Path) -> None:
    """No part of `keys` imports another part, except as PARTS_OF_KEYS allows."""
    part = part_of(path)
    allowed = {part, ""} | PARTS_OF_KEYS[part]
    assert [
        f"{found.place} imports {found.name}"
        for found in imports(path)
        if found.top == "gateway" and found.package == "keys" and found.part not in allowed
    ] == []


@pytest.mark.parametrize(
    "path", every([path for pattern in PURE for path in sorted((ROOT / "gateway").glob(pattern))])
)
def test_pure_modules_import_nothing_impure(path: Path) -> None:
    """Modules that decide and rewrite can be tested without I/O, clock, randomness or event loop."""
    assert [
        f"{found.place} imports {found.name}"
        for found in imports(path)
        if found.top in IMPURE - VALUES.get(name_of(path), set())
    ] == []


def test_every_pure_module_is_there() -> None:
    """Every entry of PURE is a module, so that a renamed one is not left out of the test above."""
    assert [pattern for pattern in PURE if not list((ROOT / "gateway").glob(pattern))] == []


@pytest.mark.parametrize(
    "path", every([path for path in MODULES if package_of(path) not in ("cli", "config")])
)
def test_the_environment_is_read_at_the_edge(path: Path) -> None:
    """Only `cli` and `config` use `os.environ` and `os.getenv`."""
    read = [
        f"{name_of(path)}:{node.lineno}"
        for node in ast.walk(ast.parse(path.read_bytes()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and "environ" in str(node.names))
    ]
    assert read == []


def test_allow_is_built_on_one_line() -> None:
    """Only one line builds `Allow`, because a second one would be a second policy."""
    built = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Allow"
    ]
    assert [place.partition(":")[0] for place in built] == ["gateway/policy/decisions.py"]
