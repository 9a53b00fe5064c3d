"""The unit for systemd, as its settings."""

from __future__ import annotations

from pathlib import Path

from tests.running import ROOT

UNIT = ROOT / "deploy" / "blnk-gateway@.service"


def settings() -> dict[str, list[str]]:
    """Return the values of each setting of the unit, in their order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def of_instance(number: int, credentials: Path | str) -> dict[str, str]:
    """Return the variables that the unit gives an instance, whose credentials are in this folder."""
    pairs = (setting.partition("=") for setting in settings()["Environment"])
    return {
        name: value.replace("%i", str(number)).replace("%d", str(credentials)) for name, _, value in pairs
    }
