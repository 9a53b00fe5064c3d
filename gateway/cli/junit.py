"""Writes the results of policy tests as JUnit XML, which CI systems show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from gateway.policy.expectations import PolicyTestResult
from gateway.policy.explanation import printable


def junit(results: Mapping[str, Sequence[PolicyTestResult]]) -> bytes:
    """Return the XML of the results by file: a suite for each file, a case for each test.

    It uses only what Jenkins' schema, GitLab, GitHub and CircleCI read; the attribute `line` has the line.
    """
    every = [result for in_file in results.values() for result in in_file]
    top = ET.Element("testsuites", {"name": "blnk-gateway test", **_counts(every)})
    for file, in_file in results.items():
        name = printable(file)
        suite = ET.SubElement(top, "testsuite", {"name": name, **_counts(in_file)})
        for result in in_file:
            test = result.test
            members = {"classname": name, "name": test.name, "file": name, "line": str(test.line)}
            case = ET.SubElement(suite, "testcase", members)
            if not result.holds:
                lines = [f"{one.what}: expected {one.expected}, got {one.got}" for one in result.mismatches]
                failure = ET.SubElement(case, "failure", {"message": lines[0], "type": "mismatch"})
                failure.text = "\n".join([f"{name}:{test.line}", *lines])
    ET.indent(top)
    written: bytes = ET.tostring(top, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _counts(results: Sequence[PolicyTestResult]) -> dict[str, str]:
    failed = sum(not result.holds for result in results)
    return {"tests": str(len(results)), "failures": str(failed), "errors": "0", "skipped": "0"}
