"""The version of the installed gateway, and whether it is compiled; looked up once in a process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache
from importlib.machinery import ExtensionFileLoader

_A_COMPILED_MODULE = "gateway.policy.routes"
"""All modules of the list in pyproject.toml are compiled, or none is."""


@cache
def version() -> str:
    """Return the version."""
    try:
        return importlib.metadata.version("blnk-gateway")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


@cache
def build_kind() -> str:
    """Return `compiled` if the hot modules are compiled, else `interpreted`."""
    spec = importlib.util.find_spec(_A_COMPILED_MODULE)
    compiled = spec is not None and isinstance(spec.loader, ExtensionFileLoader)
    return "compiled" if compiled else "interpreted"
