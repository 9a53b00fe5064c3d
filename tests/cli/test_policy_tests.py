"""The command `test`: its output, its report and its exit codes; and the policy tests of this repository."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.cli.junit import junit
from gateway.config import load_config, parse_config
from gateway.config.policy_test_reader import load_policy_tests
from gateway.policy.decisions import Policy
from gateway.policy.expectations import ALLOW, Mismatch, run_test
from gateway.policy.principals import Master
from gateway.policy.routes import Access
from gateway.policy.values import Ambiguous

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "gateway.yaml"
OWN = ROOT / "deploy" / "policy-tests.yaml"
GOOD = "- {as: [ledgers:read], do: GET /ledgers, expect: allow, name: a reader reads}\n"
BAD = """\
- {as: [ledgers:read], do: POST /ledgers, expect: allow, stamp: create}
- {as: none, do: GET /nothing, expect: 404 GEN_NOT_FOUND}
"""
LEDGERS = load_config(SHIPPED, {}, secrets=False).routes.routes[2].line


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(
        cli, ["test", *map(str, arguments), "--config", str(SHIPPED)], env={"COLUMNS": "20", **environ}
    )


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    return file


def failures(bad: Path) -> str:
    return f"""\
{bad}:1: POST /ledgers  as a key with ledgers:read
  decision  expected  allow
            got       403 AUTH_INSUFFICIENT_PERMISSIONS Insufficient permissions for ledgers:write
  stamp     expected  create
            got       none
  matched   POST /ledgers  {SHIPPED}:{LEDGERS}
{bad}:2: GET /nothing  as no key
  decision  expected  404 GEN_NOT_FOUND
            got       401 AUTH_MISSING_API_KEY Authentication required. Use X-Blnk-Key header
"""


def test_passed_tests_are_counted(good: Path) -> None:
    assert outcome(run(good)) == (0, "1 policy tests passed\n", "")


def test_each_failure_is_printed_with_its_line_and_the_result(bad: Path) -> None:
    assert outcome(run(bad)) == (1, f"{failures(bad)}2 of 2 policy tests failed\n", "")


def test_several_files_and_patterns_are_run_each_once(good: Path, bad: Path, tmp_path: Path) -> None:
    (tmp_path / "dir.yaml").mkdir()
    result = run(good, tmp_path / "*.yaml", tmp_path / "**" / "good.yaml")
    assert outcome(result) == (1, f"{failures(bad)}2 of 3 policy tests failed\n", "")


def test_a_file_may_have_the_name_of_a_pattern(tmp_path: Path) -> None:
    file = tmp_path / "[x].yaml"
    file.write_text(GOOD)
    assert outcome(run(file)) == (0, "1 policy tests passed\n", "")


def test_a_pattern_without_a_file_is_wrong_usage(tmp_path: Path) -> None:
    result = run(tmp_path / "*.yaml")
    assert result.exit_code == 2
    assert "Invalid value for 'FILE': the pattern matches no file" in result.stderr


def test_a_file_must_be_named() -> None:
    assert run().exit_code == 2


def test_every_problem_of_every_file_is_printed_and_nothing_is_run(good: Path, tmp_path: Path) -> None:
    refused, absent = tmp_path / "refused.yaml", tmp_path / "absent.yaml"
    refused.write_text(
        "- {as: [], do: GET /ledgers, expect: allow}\n- {as: master, do: GET /, expect: 2026-01-01}\n"
    )
    text = (
        f"{refused}:2: YAML reads this as a date: quote it\n"
        f"{absent}: cannot be read: No such file or directory\n"
    )
    assert outcome(run(good, refused, absent)) == (2, "", text)


def test_a_refused_configuration_fails_the_run(good: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("routes:\n  GET /health: public\n")
    result = CliRunner().invoke(cli, ["test", str(good), "--config", str(config)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{config}:1: upstream.url is missing" in result.stderr


def test_the_master_key_counts_as_the_configuration_says(tmp_path: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text("- {as: master, do: GET /ledgers, expect: 401 AUTH_INVALID_API_KEY}\n")
    assert run(file, BLNK_GATEWAY_KEYS__MASTER="deny").exit_code == 0
    assert run(file).exit_code == 1


def test_the_junit_report_has_a_suite_for_each_file(good: Path, bad: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert run(good, bad, "--junit", report).exit_code == 1
    top = ET.fromstring(report.read_bytes())  # noqa: S314 - our own
    counts = {"errors": "0", "skipped": "0"}
    assert [(element.tag, element.attrib) for element in top.iter()] == [
        ("testsuites", {"name": "blnk-gateway test", "tests": "3", "failures": "2", **counts}),
        ("testsuite", {"name": str(good), "tests": "1", "failures": "0", **counts}),
        ("testcase", {"classname": str(good), "name": "a reader reads", "file": str(good), "line": "1"}),
        ("testsuite", {"name": str(bad), "tests": "2", "failures": "2", **counts}),
        ("testcase", {"classname": str(bad), "name": "POST /ledgers", "file": str(bad), "line": "1"}),
        (
            "failure",
            {
                "message": "decision: expected allow, got 403 AUTH_INSUFFICIENT_PERMISSIONS "
                "Insufficient permissions for ledgers:write",
                "type": "mismatch",
            },
        ),
        ("testcase", {"classname": str(bad), "name": "GET /nothing", "file": str(bad), "line": "2"}),
        (
            "failure",
            {
                "message": "decision: expected 404 GEN_NOT_FOUND, got 401 AUTH_MISSING_API_KEY "
                "Authentication required. Use X-Blnk-Key header",
                "type": "mismatch",
            },
        ),
    ]
    assert next(top.iter("failure")).text == (
        f"{bad}:1\n"
        "decision: expected allow, got 403 AUTH_INSUFFICIENT_PERMISSIONS "
        "Insufficient permissions for ledgers:write\n"
        "stamp: expected create, got none"
    )


def test_a_file_name_of_any_bytes_can_be_reported() -> None:
    top = ET.fromstring(junit({"a\udcff\x01<é>.yaml": []}))  # noqa: S314 - our own
    assert [suite.get("name") for suite in top] == ["a\\udcff\\x01<é>.yaml"]


def test_a_report_that_cannot_be_written_is_wrong_usage(good: Path, tmp_path: Path) -> None:
    report = tmp_path / "absent" / "report.xml"
    text = f"{report}: cannot be written: No such file or directory\n"
    assert outcome(run(good, "--junit", report)) == (2, "", text)


class TestTheRepositorysOwn:
    def test_they_pass(self) -> None:
        count = len(load_policy_tests(OWN))
        assert outcome(run(OWN)) == (0, f"{count} policy tests passed\n", "")

    def test_every_route_is_allowed_once_and_refused_once(self) -> None:
        """Every route has a test that is allowed and, unless it is public, one that is refused."""
        policy = Policy(load_config(SHIPPED, {}, secrets=False).routes)
        outcomes = [run_test(test, policy) for test in load_policy_tests(OWN)]
        allowed = {found.route for found in outcomes if found.test.expect == ALLOW}
        refused = {found.route for found in outcomes if found.test.expect != ALLOW}
        routes = set(policy.table.routes)
        assert allowed >= routes
        assert {route.name for route in routes - refused if route.access is Access.SCOPES} == set()

    def test_every_stamp_is_tested(self) -> None:
        policy = Policy(load_config(SHIPPED, {}, secrets=False).routes)
        asked = {(run_test(test, policy).route, test.stamp) for test in load_policy_tests(OWN)}
        stamped = {(route, route.stamp) for route in policy.table.routes if route.stamp.value != "none"}
        assert stamped - asked == set()

    def test_refusals_of_every_kind_are_tested(self) -> None:
        """There are refusals of the master key, of /metrics, of unknown paths and of ambiguous targets."""
        tests = load_policy_tests(OWN)
        assert {test.expect for test in tests} == {
            "allow",
            "400 GEN_BAD_REQUEST",
            "401 AUTH_MISSING_API_KEY",
            "403 AUTH_INSUFFICIENT_PERMISSIONS",
            "403 AUTH_MASTER_KEY_REQUIRED",
            "403 AUTH_UNKNOWN_RESOURCE",
            "403 GATEWAY_NOT_DECIDED",
            "404 GEN_NOT_FOUND",
        }
        assert {test.expect for test in tests if test.request.raw == "/metrics"} == {
            "401 AUTH_MISSING_API_KEY",
            "403 AUTH_UNKNOWN_RESOURCE",
            "404 GEN_NOT_FOUND",
        }
        assert len([test for test in tests if isinstance(test.request.target, Ambiguous)]) >= 9
        assert any(isinstance(test.caller, Master) and test.expect != ALLOW for test in tests)

    def test_they_detect_a_policy_that_opens_more(self) -> None:
        """If a `master` route is opened to a scope, the tests of that route fail."""
        opened = SHIPPED.read_text().replace("GET /hooks:         master", "GET /hooks: hooks:read")
        config = parse_config(opened.encode(), Path("gateway.yaml"), {}, secrets=False)
        outcomes = [run_test(test, Policy(config.routes)) for test in load_policy_tests(OWN)]
        assert [(one.test.name, one.mismatches) for one in outcomes if not one.holds] == [
            ("GET /hooks", (Mismatch("decision", "403 AUTH_MASTER_KEY_REQUIRED", "allow"),)),
            ("GET /hooks", (Mismatch("decision", "403 GATEWAY_NOT_DECIDED", "allow"),)),
        ]
