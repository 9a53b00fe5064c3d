"""Principals: when a key is live."""

from __future__ import annotations

import math

import pytest

from gateway.policy.principals import MASTER, ApiKey, Master, State


@pytest.mark.parametrize(
    ("expires_at", "revoked", "state"),
    [
        (1000.5, False, State.LIVE),
        (1000.0, False, State.EXPIRED),
        (999.0, False, State.EXPIRED),
        (math.inf, False, State.LIVE),
        (math.nan, False, State.EXPIRED),
        (2000.0, True, State.REVOKED),
        (999.0, True, State.REVOKED),
    ],
)
def test_a_key_is_live_before_its_expiry_unless_revoked(
    expires_at: float, revoked: bool, state: State
) -> None:
    assert ApiKey("api_key_1", "acme", (), expires_at, revoked).state(now=1000.0) is state


@pytest.mark.parametrize(
    ("expires_at", "revoked", "state"),
    [(2000.0, False, State.DISABLED), (999.0, False, State.DISABLED), (2000.0, True, State.REVOKED)],
)
def test_a_disabled_key_is_never_live(expires_at: float, revoked: bool, state: State) -> None:
    key = ApiKey("api_key_1", "acme", (), expires_at, revoked, disabled=True)
    assert key.state(now=1000.0) is state


def test_every_master_principal_is_the_same_value() -> None:
    assert Master() == MASTER
