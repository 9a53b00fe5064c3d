"""The build: setuptools, which compiles the hot modules with mypyc if BLNK_GATEWAY_COMPILE=1.

The build backend of pyproject.toml is this module, because what the build requires depends on the variable
(PEP 517). setuptools runs it as a script, too, to build.

Rules kept here:
- Without the variable nothing is compiled, and neither mypy nor a C compiler is required.
- A build that is to be compiled fails where it cannot be; it never falls back.
- All else about the build is in pyproject.toml, the list of compiled modules too.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta, setup

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

SWITCH = "BLNK_GATEWAY_COMPILE"
PROJECT: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
COMPILED: dict[str, Any] = PROJECT["tool"]["blnk-gateway"]["compiled"]
# The compiled modules are one library, whose functions call each other directly and not by way of the dynamic
# linker: 5 % less CPU time for a request. The functions that Python looks up are exported in any case.
DIRECT_CALLS = ("-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt")

build_editable = build_meta.build_editable
build_sdist = build_meta.build_sdist
build_wheel = build_meta.build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Return what the build requires beside setuptools: mypyc, and the dependencies, whose types it reads."""
    return [*COMPILED["requires"], *PROJECT["project"]["dependencies"]] if is_compiled() else []


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """Return nothing. A compiled build cannot be editable: it would put its modules beside the sources."""
    if is_compiled():
        sys.exit(f"{SWITCH}=1: leave out --editable, or the variable")
    return []


def is_compiled() -> bool:
    """Return whether the build is to be compiled."""
    given = os.environ.get(SWITCH, "0")
    if given not in ("0", "1"):
        sys.exit(f"{SWITCH}={given}: write 1 to compile the hot modules, or 0")
    return given == "1"


def extensions() -> list[Any]:
    """Return the compiled modules, in one shared library."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        sys.exit(f"{SWITCH}=1 requires mypyc: pip install {' '.join(COMPILED['requires'])}")
    made = mypycify(COMPILED["modules"], opt_level="3", debug_level="0", group_name="blnk_gateway")
    if sys.platform == "linux":
        for extension in made:
            extension.extra_compile_args += DIRECT_CALLS
    return list(made)


if __name__ == "__main__":
    setup(ext_modules=extensions() if is_compiled() else [])
