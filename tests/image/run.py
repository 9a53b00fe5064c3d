"""Run the tests of the image, which the whole suite leaves out because they take four minutes."""

from __future__ import annotations

import sys

import pytest


def main() -> int:
    return pytest.main(["-m", "slow", "tests/image", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
