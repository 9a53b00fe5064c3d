"""Each dependency is killed, stalled and corrupted for a moment; `python3 -m tests.faults` takes longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scenarios import RECOVERY_SECONDS, SCENARIOS, Scenario, play
from tests.faults.stage import SHORT


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=scenario.name, marks=[pytest.mark.redis] if scenario.cast.redis else [])
        for scenario in SCENARIOS
    ],
)
async def test_a_fault_costs_nothing_but_its_own_responses(scenario: Scenario, tmp_path: Path) -> None:
    """One answer each, no POST twice, every acknowledged create kept and stamped, recovery in 2 s."""
    run = await play(scenario, SHORT, tmp_path)
    assert run.violations(scenario.failures, RECOVERY_SECONDS) == []
