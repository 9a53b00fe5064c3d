"""A principal knows whether its key is live."""

from __future__ import annotations

import math

import pytest

from gateway.policy.principals import MASTER, ApiKey, KeyState, Master


@pytest.mark.parametrize(
    ("expires_at", "revoked", "state"),
    [
        (1000.5, False, KeyState.LIVE),
        (1000.0, False, KeyState.EXPIRED),
        (999.0, False, KeyState.EXPIRED),
        (math.inf, False, KeyState.LIVE),
        (math.nan, False, KeyState.EXPIRED),
        (2000.0, True, KeyState.REVOKED),
        (999.0, True, KeyState.REVOKED),
    ],
)
def test_a_key_is_live_before_its_expiry_unless_revoked(
    expires_at: float, revoked: bool, state: KeyState
) -> None:
    assert ApiKey("api_key_1", "acme", (), expires_at, revoked).state(now=1000.0) is state


@pytest.mark.parametrize(
    ("expires_at", "revoked", "state"),
    [(2000.0, False, KeyState.DISABLED), (999.0, False, KeyState.DISABLED), (2000.0, True, KeyState.REVOKED)],
)
def test_a_disabled_key_is_never_live(expires_at: float, revoked: bool, state: KeyState) -> None:
    key = ApiKey("api_key_1", "acme", (), expires_at, revoked, disabled=True)
    assert key.state(now=1000.0) is state


def test_every_master_principal_is_the_same_value() -> None:
    assert Master() == MASTER
