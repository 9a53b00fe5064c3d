"""The outcomes of policy tests as JUnit XML, which CI systems show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from gateway.policy.expectations import PolicyTestResult


def junit(outcomes: Mapping[str, Sequence[PolicyTestResult]]) -> bytes:
    """The XML of the outcomes of each file: one suite a file, one case a test.

    It keeps to what Jenkins' schema and GitLab, GitHub and CircleCI read; lines are in `line`.
    """
    every = [outcome for of_file in outcomes.values() for outcome in of_file]
    top = ET.Element("testsuites", {"name": "blnk-gateway test", **_counts(every)})
    for file, of_file in outcomes.items():
        name = _writable(file)
        suite = ET.SubElement(top, "testsuite", {"name": name, **_counts(of_file)})
        for outcome in of_file:
            test = outcome.test
            members = {"classname": name, "name": test.name, "file": name, "line": str(test.line)}
            case = ET.SubElement(suite, "testcase", members)
            if not outcome.holds:
                lines = [f"{one.what}: expected {one.expected}, got {one.got}" for one in outcome.mismatches]
                failure = ET.SubElement(case, "failure", {"message": lines[0], "type": "mismatch"})
                failure.text = "\n".join([f"{name}:{test.line}", *lines])
    ET.indent(top)
    written: bytes = ET.tostring(top, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _counts(outcomes: Sequence[PolicyTestResult]) -> dict[str, str]:
    failed = sum(not outcome.holds for outcome in outcomes)
    return {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0", "skipped": "0"}


def _writable(file: str) -> str:
    """A file's name as XML can hold it: some bytes and characters cannot stand there."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in file)
