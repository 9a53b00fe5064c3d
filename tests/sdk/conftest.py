"""The fixture of the live Core, for the tests of SDKs against it."""

from __future__ import annotations

import pytest

from tests.core.conftest import core

__all__ = ["core"]

pytest.register_assert_rewrite("tests.sdk.journey")
