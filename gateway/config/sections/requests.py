"""The settings that bound requests: deadlines and sizes, rates and connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config import rates, values
from gateway.config.setting import described
from gateway.policy.terms import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsConfig:
    """One deadline, in seconds, for each phase of a request."""

    head: float = field(
        default=10.0,
        metadata=described(
            values.deadline, "the longest time from the first to the last byte of a client's request head"
        ),
    )
    body: float = field(
        default=30.0,
        metadata=described(
            values.deadline,
            "the longest time between two bytes of a client's body; a body that takes longer than "
            "this in all has to come at 1 KiB/s or more",
        ),
    )
    idle: float = field(
        default=75.0,
        metadata=described(values.deadline, "how long a client's connection is kept between two requests"),
    )
    write: float = field(
        default=30.0,
        metadata=described(
            values.deadline, "after this time, a client that takes less than 1 KiB/s of its response is cut"
        ),
    )
    connect: float = field(
        default=2.0,
        metadata=described(
            values.deadline,
            "the longest time for opening a connection to Core, with all addresses of its name and "
            "TLS, or waiting for a free connection",
        ),
    )
    first_byte: float = field(
        default=300.0,
        metadata=described(
            values.deadline,
            "the longest time until the first byte of Core's response; then 504; a route can have its "
            "own: `{scope: ..., first_byte: 15m}`",
        ),
    )
    between_bytes: float = field(
        default=60.0,
        metadata=described(
            values.deadline,
            "the longest time between two bytes of the body of Core's response, and for its head in all",
        ),
    )
    upstream_idle: float = field(
        default=60.0,
        metadata=described(
            values.deadline,
            "how long an unused connection to Core is kept; one in use is replaced after 5 minutes, "
            "so that the gateway follows a host name that moves",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Limits for one client, or for all clients together; sizes in bytes."""

    body: int = field(
        default=5 * 1024**2,
        metadata=described(
            values.size,
            "the largest body that is stamped, as the client sends it; a larger one gets 413; other "
            "bodies are streamed without a limit, except for 64 KiB on GET, HEAD, public routes and "
            "`/api-keys`",
        ),
    )
    buffered: int = field(
        default=64 * 1024**2,
        metadata=described(
            values.size,
            "the most bytes of all bodies that are buffered at once: those that are stamped, and "
            "small ones that are not whole yet; keys that hold less than their share may use an "
            "eighth more, and networks a sixteenth; beyond that, 503",
        ),
    )
    connections: int = field(
        default=10_000,
        metadata=described(
            values.count(1),
            "the most connections of clients at once; further ones get 503 and are closed; the "
            "defaults need 10,432 open files; with fewer, `check` says how many connections are "
            "possible",
        ),
    )
    rate: Rate | None = field(
        default=None,
        metadata=described(
            rates.rate,
            "the rate of every key that has none of its own, and of the master key: `100/s`, `600/m`, "
            "`10000/h`, or a plain number for a second; requests that are refused count too; more get "
            "429; 0 is no limit; each key has its own, and `keys.per_owner` bounds how many an owner "
            "has ([Limits](README.md#limits))",
        ),
    )
    on_store_failure: str = field(
        default="local",
        metadata=described(
            values.choice("local", "deny"),
            "while replicas cannot share limits because Redis fails: `local`: each lets through its "
            "last share of them; `deny`: requests of keys with a limit get 503",
        ),
    )
