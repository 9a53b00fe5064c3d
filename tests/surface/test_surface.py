"""The public surface is the one of the snapshot, and a difference says what it demands of a release."""

from __future__ import annotations

import pytest

from tests.surface.snapshot import Difference, compare, public_surface, read_snapshot

BEFORE = {"settings": {"limits.rate": "default 0", "listen": "required"}, "exit codes": {"0": "OK"}}
SNAPSHOT_COMMAND = "If it is meant, write the snapshot anew: python3 -m tests.surface\n"


def test_the_surface_is_the_one_of_the_snapshot() -> None:
    """Nothing that users depend on changes unnoticed."""
    found = compare(read_snapshot(), public_surface())
    assert found == Difference((), ()), f"\n{found.text}"


@pytest.mark.parametrize("kind", public_surface())
def test_no_kind_of_name_is_empty(kind: str) -> None:
    """Every kind has names with a description, so that comparing them checks something."""
    names = public_surface()[kind]
    assert len(names) > 3
    assert all(names.values())


def test_every_metric_with_labels_is_listed_with_them() -> None:
    """Metrics without a sample have their labels in the snapshot, too."""
    listed = public_surface()["metrics"]
    assert listed["blnk_gateway_requests_total"] == "counter route method status code answered_by"
    assert listed["blnk_gateway_ready"] == "gauge"


class TestDifferences:
    def test_what_is_gone_or_changed_is_breaking(self) -> None:
        """A removed name, and a default or type that changed, are named with what was there before."""
        after = {"settings": {"limits.rate": "default 5"}, "exit codes": {"0": "OK"}}
        found = compare(BEFORE, after)
        assert found == Difference(
            breaking=(
                "settings: listen: was 'required', is gone",
                "settings: limits.rate: was 'default 0', is 'default 5'",
            ),
            added=(),
        )
        assert "'Upgrading from'" in found.text
        assert found.text.endswith(SNAPSHOT_COMMAND)

    def test_what_is_new_is_an_addition(self) -> None:
        after = {**BEFORE, "exit codes": {"0": "OK", "9": "NEW"}}
        found = compare(BEFORE, after)
        assert found == Difference(breaking=(), added=("exit codes: 9: 'NEW'",))
        assert found.text == (
            "Added. This needs a new minor version, and an entry in CHANGELOG.md under 'Added'.\n"
            "  exit codes: 9: 'NEW'\n" + SNAPSHOT_COMMAND
        )

    def test_one_more_value_or_label_is_an_addition(self) -> None:
        """One value less is breaking, and so is an option that has become required."""
        before = {
            "commands": {"a --shell": "bash|zsh optional", "a --x": "text optional"},
            "metrics": {"m": "gauge a"},
        }
        more = {
            "commands": {"a --shell": "bash|zsh|fish optional", "a --x": "text required"},
            "metrics": {"m": "gauge a b"},
        }
        assert compare(before, more) == Difference(
            breaking=("commands: a --x: was 'text optional', is 'text required'",),
            added=(
                "commands: a --shell: was 'bash|zsh optional', is 'bash|zsh|fish optional'",
                "metrics: m: was 'gauge a', is 'gauge a b'",
            ),
        )
        assert len(compare(more, before).breaking) == 3

    def test_without_a_difference_nothing_is_said(self) -> None:
        assert compare(BEFORE, BEFORE).text == ""
