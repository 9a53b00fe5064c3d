"""The fixtures of the tests of the chart."""

from __future__ import annotations

import pytest

from tests.deploy import helm_program
from tests.deploy.helm import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    """The helm of this machine; a test that uses it has the marker `helm`."""
    program = helm_program.find()
    if program is None:
        pytest.skip(str(helm_program.missing()))
    return Helm(program)
