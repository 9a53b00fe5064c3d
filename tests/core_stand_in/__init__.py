"""The tests' one stand-in for Core: a server that records, and behaviours that a test gives it.

    async with StandInCore(MASTER_KEY) as upstream:
        upstream.script(delayed(0.1), cut_after(18), responding("503 Service Unavailable"))

`creates`, `arrivals` and `api_keys` hold the behaviours that keep a state of their own.
"""

from tests.core_stand_in.behaviours import (
    REFUSAL,
    abort,
    cut_after,
    delayed,
    early,
    echo,
    held,
    in_halves,
    like_core,
    never,
    of_size,
    raw,
    refuse,
    responding,
)
from tests.core_stand_in.exchange import RECORDS, Behaviour, Connection, Exchange, Request
from tests.core_stand_in.server import StandInCore, is_public

__all__ = [
    "RECORDS",
    "REFUSAL",
    "Behaviour",
    "Connection",
    "Exchange",
    "Request",
    "StandInCore",
    "abort",
    "cut_after",
    "delayed",
    "early",
    "echo",
    "held",
    "in_halves",
    "is_public",
    "like_core",
    "never",
    "of_size",
    "raw",
    "refuse",
    "responding",
]
