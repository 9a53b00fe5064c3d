"""The alerts for Prometheus are valid, each has a test, and each asks for metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.running import ROOT

FOLDER = ROOT / "deploy" / "prometheus"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool: sudo apt-get install --yes prometheus")
    done = subprocess.run([program, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.prometheus
def test_prometheus_accepts_the_rules() -> None:
    assert f"{len(alerts())} rules found" in promtool(
        "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"
    )


@pytest.mark.prometheus
def test_each_rule_fires_as_its_test_says() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yaml")


def test_each_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """The tests name every alert twice at least, and no alert that is gone."""
    tests = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_each_metric_of_a_rule_is_one_of_the_gateway() -> None:
    """A rule on a metric that does not exist never fires; deploy/reference.md has all of them."""
    documented = set(re.findall(r"blnk_gateway_\w+", (ROOT / "deploy" / "reference.md").read_text()))
    for rule in alerts():
        named = set(re.findall(r"blnk_gateway_\w+", rule["expr"]))
        assert named
        assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} - documented == set()


def test_an_on_call_engineer_is_told_what_happened_and_what_to_do() -> None:
    """Each alert has a severity that routes can use, a summary and a description."""
    for rule in alerts():
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
