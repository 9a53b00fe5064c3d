"""Dependencies that come and go, in health, metrics and the log."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from gateway.admin.health import Health
from gateway.server.dependencies import (
    LASTING_SECONDS,
    STORE,
    TOGETHER_SECONDS,
    UPSTREAM,
    Dependencies,
    DependencyMetrics,
)
from gateway.telemetry import Log

REFUSED = "connection refused"


class Stage:
    """Dependencies with a clock that the test sets, checked four times a second."""

    def __init__(self) -> None:
        self.now = 100.0
        self.health = Health(version="1", core_seen=True)
        self._log = io.StringIO()
        events = Log(self._log, "json").events
        self.dependencies = Dependencies(self.health, events, lambda: self.now)

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.25
            self.dependencies.look()

    def flap(self, times: int, each: float = 0.25) -> None:
        """Go down and up again, so many times."""
        for _ in range(times):
            self.dependencies.failed(UPSTREAM, REFUSED)
            self.passes(each)
            self.dependencies.responded(UPSTREAM)
            self.passes(each)

    @property
    def logged(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [{name: line[name] for name in line if name != "timestamp"} for line in lines]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def degraded(changes: int, name: str = UPSTREAM) -> dict[str, Any]:
    line = {"level": "warning", "event": "degraded", "dependency": name}
    return line | {"reason": REFUSED, "changes": changes}


def restored(changes: int) -> dict[str, Any]:
    return {"level": "info", "event": "restored", "dependency": UPSTREAM, "changes": changes}


def flapping(changes: int) -> dict[str, Any]:
    return {"level": "warning", "event": "flapping", "dependency": UPSTREAM, "changes": changes}


def test_health_shows_a_change_at_once(stage: Stage) -> None:
    stage.dependencies.failed(UPSTREAM, REFUSED)
    down = dict(stage.health.degraded)
    stage.dependencies.responded(UPSTREAM)
    assert (down, stage.health.degraded, stage.logged) == ({UPSTREAM: REFUSED}, {}, [])


def test_a_change_that_lasts_is_logged_once(stage: Stage) -> None:
    for _ in range(20):
        stage.dependencies.failed(UPSTREAM, REFUSED)
        stage.passes(LASTING_SECONDS)
    stage.dependencies.responded(UPSTREAM)
    stage.passes(20 * LASTING_SECONDS)
    assert stage.logged == [degraded(1), restored(1)]


def test_it_is_logged_when_it_has_lasted_for_a_second(stage: Stage) -> None:
    stage.dependencies.failed(UPSTREAM, REFUSED)
    stage.passes(LASTING_SECONDS - 0.25)
    early = stage.logged
    stage.passes(0.25)
    assert (early, stage.logged) == ([], [degraded(1)])


def test_changes_that_did_not_last_are_counted_in_the_next_line(stage: Stage) -> None:
    stage.flap(3)
    stage.dependencies.failed(UPSTREAM, REFUSED)
    stage.passes(LASTING_SECONDS)
    assert stage.logged == [degraded(7)]


def test_a_short_outage_is_logged_within_a_minute(stage: Stage) -> None:
    stage.flap(1)
    stage.passes(TOGETHER_SECONDS)
    assert stage.logged == [flapping(2)]


def test_coming_and_going_all_the_time_costs_a_line_a_minute(stage: Stage) -> None:
    """5,000 changes in 21 minutes are 21 lines, not 5,000."""
    stage.flap(2500)
    stage.passes(TOGETHER_SECONDS)
    lines = stage.logged
    assert 20 <= len(lines) <= 22
    assert {line["event"] for line in lines} == {"flapping"}
    assert sum(line["changes"] for line in lines) == 5000


def test_an_outage_after_flapping_is_logged_as_ever(stage: Stage) -> None:
    """An outage after flapping is logged as any other, even if the minute ends within it."""
    stage.flap(1)
    stage.passes(TOGETHER_SECONDS - 1.0)
    stage.dependencies.failed(UPSTREAM, REFUSED)
    stage.passes(2.0)
    assert stage.logged == [flapping(3), degraded(1)]


def test_each_dependency_has_lines_of_its_own(stage: Stage) -> None:
    stage.dependencies.failed(UPSTREAM, REFUSED)
    stage.dependencies.failed(STORE, REFUSED)
    stage.dependencies.responded(UPSTREAM)
    stage.passes(LASTING_SECONDS)
    assert stage.logged == [degraded(1, STORE)]


def samples(stage: Stage) -> dict[str, float]:
    families = DependencyMetrics(stage.dependencies).collect()
    return {
        " ".join([sample.name.removeprefix("blnk_gateway_"), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_show_the_present_state_and_count_every_change(stage: Stage) -> None:
    stage.flap(3, each=0.0)
    stage.dependencies.failed(STORE, REFUSED)
    assert samples(stage) == {
        "upstream_up": 1,
        "key_store_up": 0,
        "dependency_changes_total upstream down": 3,
        "dependency_changes_total upstream up": 3,
        "dependency_changes_total store down": 1,
        "dependency_changes_total store up": 0,
    }


def test_core_is_not_up_before_it_was_accepted(stage: Stage) -> None:
    stage.health.core_seen = False
    assert samples(stage)["upstream_up"] == 0
