"""The tool that attacks a gateway, in short: `python3 -m tests.hostile` takes longer and has more attacks."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hostile import report, soak_report
from tests.hostile.attacks import ATTACKS, Attack, no_attack
from tests.hostile.bounds import Bounds, Measured, Outcome, Revoked, Usage
from tests.hostile.playing import play
from tests.hostile.soak import Sample, Soaked, soak
from tests.running import ROOT

# The measurements are not tested here, since the machine may be busy.
PATIENT = Bounds(wait=8.0, alive=8.0, first_use=8.0, revoking=8.0, growth=1 << 30)
GOOD = Measured(
    asked=[Outcome(0.012, "200"), Outcome(0.004, "201")],
    alive=[Outcome(0.002, "200")],
    revoked=[Revoked(first_use=0.02, took=0.005, refused=0, lag=0.001)],
    usage=Usage(at_rest=60 << 20, memory=72 << 20, descriptors=31),
    attacker=Counter({"connected": 1200, "401": 3000, "cut": 2}),
)
ATTACK = Attack(no_attack, 1200)


def named(name: str) -> Attack:
    return next(attack for attack in ATTACKS if attack.name == name)


@pytest.mark.redis
@pytest.mark.parametrize(
    "name", ["half sent bodies", "idle connections, beyond 256 files", "begun handshakes", "barren records"]
)
async def test_an_attack_is_played_and_nobody_feels_it(name: str, tmp_path: Path) -> None:
    """During an attack all requests of the well-behaved client and all revocations succeed."""
    measured = await play(named(name), 2.0, tmp_path)
    assert list(replace(PATIENT, descriptors=named(name).bounds.descriptors).broken(measured)) == []
    assert measured.attacker["connected"] >= named(name).connections


@pytest.mark.redis
async def test_a_soak_is_played_and_leaves_samples(tmp_path: Path) -> None:
    """A soak takes a sample after each burst, and all requests, revocations and rotations succeed."""
    soaked = await soak(0.05, tmp_path, ["refusals"])
    assert len(soaked.samples) >= 3
    assert {outcome.result for outcome in [*soaked.asked, *soaked.alive]} == {"200"}
    assert (len(soaked.revoked) > 0, soaked.rotated, soaked.trouble) == (True, 1, [])


class TestAttacks:
    def test_each_has_a_name_of_its_own(self) -> None:
        """Every attack has a name of its own for `--only`, and a description."""
        assert [name for name, count in Counter(attack.name for attack in ATTACKS).items() if count > 1] == []
        assert [attack.name for attack in ATTACKS if attack.what.startswith("None")] == []

    def test_one_that_is_not_there_is_named(self) -> None:
        """A name that no attack has is a mistake of usage: exit code 2, and what to do."""
        ended = subprocess.run(
            [sys.executable, "-m", "tests.hostile.run", "--only", "dragons"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2
        assert "no attack has 'dragons' in its name; --list names them" in ended.stderr


class TestBounds:
    def test_what_is_within_them_is_ok(self) -> None:
        assert list(Bounds().broken(GOOD)) == []

    @pytest.mark.parametrize(
        ("measured", "broken"),
        [
            (replace(GOOD, asked=[]), "no request was made"),
            (replace(GOOD, revoked=[]), "no key was revoked"),
            (replace(GOOD, asked=[Outcome(0.1, "503")]), "requests that failed: 1"),
            (replace(GOOD, asked=[Outcome(1.5, "200")]), "a request waited 1.5 s"),
            (replace(GOOD, alive=[Outcome(0.1, "refused")]), "failures of `/health/alive`: 1"),
            (replace(GOOD, alive=[Outcome(2.0, "200")]), "`/health/alive` took 2.0 s"),
            (replace(GOOD, revoked=[Revoked(3.0, 0.0, 0, 0.0)]), "a new key was not taken for 3.0 s"),
            (replace(GOOD, revoked=[Revoked(0.0, 0.0, 4, 0.0)]), "revocations that were refused: 4"),
            (replace(GOOD, revoked=[Revoked(0.0, 1.1, 0, 0.0)]), "a revocation took 1.1 s"),
            (replace(GOOD, revoked=[Revoked(0.0, 0.0, 0, 1.2)]), "a revoked key lived 1.2 s"),
            (replace(GOOD, usage=Usage(60 << 20, 190 << 20, 31)), "memory grew by more than 64 MiB"),
            (replace(GOOD, usage=Usage(60 << 20, 61 << 20, 20_000)), "more than 10600 descriptors"),
            (replace(GOOD, trouble=["a fault"]), "a fault"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_is_beyond_one_is_said(self, measured: Measured, broken: str) -> None:
        assert list(Bounds().broken(measured)) == [broken]


class TestTable:
    def test_a_row_shows_what_was_measured(self) -> None:
        lines = list(report.table([report.Row(ATTACK, GOOD)]))
        assert [line.count("|") for line in lines] == [14, 14, 14]
        assert lines[2] == (
            "| no attack, for comparison | 1,200 | 1,200: 3,000 x 401, 2 x cut | 2 | none | 12 | 12 | 2 | 5 "
            "| 1 | 60 to 72 | 31 | ok |"
        )

    def test_a_row_says_what_is_broken(self) -> None:
        measured = replace(GOOD, asked=[Outcome(1.5, "503"), Outcome(0.1, "503"), Outcome(0.1, "200")])
        line = list(report.table([report.Row(ATTACK, measured)]))[2]
        assert "| 3 | 2 x 503 | 1500 | 1500 |" in line
        assert line.endswith("| **requests that failed: 2; a request waited 1.5 s** |")


def soaked(memory: list[int], descriptors: int = 40) -> Soaked:
    """Return a soak in which this was held each half minute, in MiB."""
    samples = [Sample(30.0 * turn, size << 20, descriptors, 2 << 20) for turn, size in enumerate(memory)]
    return Soaked(samples, max(memory) << 20, 600, GOOD.asked, GOOD.alive, GOOD.revoked, 3, [])


class TestSoak:
    def test_what_is_taken_in_the_first_quarter_is_no_leak(self) -> None:
        """Memory that is taken in the first quarter is no leak, since caches fill then."""
        found = soaked([60, 90, 120, 121, 119, 120, 121, 120])
        assert soak_report.broken(found) == []
        assert list(soak_report.table(found))[2:] == [
            "| memory of the gateway, MiB | 60.0 | 120.0 | 121.0 | +0.06 | 16 | ok |",
            "| descriptors | 40 | 40 | 600 | +0.00 | 32 | ok |",
            "| memory of Redis, MiB | 2.0 | 2.0 | 2.0 | +0.00 |  | not bounded |",
        ]

    def test_what_grows_on_is_one(self) -> None:
        """Memory that grows from the second quarter to the last is a leak."""
        found = soaked([60, 90, 100, 110, 120, 130, 140, 150])
        assert soak_report.broken(found) == ["memory of the gateway, MiB: **grew by 40.0**"]
        assert "| +20.00 | 16 | **grew by 40.0** |" in list(soak_report.table(found))[2]

    def test_a_key_that_lived_on_is_reported(self) -> None:
        found = replace(soaked([60] * 8), revoked=[Revoked(0.1, 0.1, 0, 1.3)])
        assert soak_report.broken(found) == ["a revoked key lived 1.3 s"]
