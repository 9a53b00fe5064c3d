"""The bounds for a well-behaved client, a revocation and the gateway's process during an attack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished request, `wait` seconds after it was due; `result` is a status or a failure."""

    wait: float
    result: str

    @property
    def good(self) -> bool:
        return self.result in ("200", "201")


@dataclass(frozen=True, slots=True)
class Revoked:
    """A key that was revoked: seconds from its minting to its first use, and from the first DELETE to a 204.

    `lag` is from the 204 to the last request with it that reached Core; `refused` counts the DELETEs before.
    """

    first_use: float
    took: float
    refused: int
    lag: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of the process: bytes at rest and at most, descriptors at most."""

    at_rest: int
    memory: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of one attack."""

    asked: Sequence[Outcome]
    alive: Sequence[Outcome]
    revoked: Sequence[Revoked]
    usage: Usage
    attacker: Counter[str]
    trouble: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds, bytes and counts that an attack must not exceed; the waits are the longest ones."""

    failed: int = 0
    wait: float = 1.0
    alive: float = 1.0
    first_use: float = 1.0
    revoking: float = 1.0
    lag: float = 1.0
    growth: int = 64 << 20
    descriptors: int = 10_600

    def broken(self, measured: Measured) -> Iterator[str]:
        """Return each bound that is broken, in a few words."""
        failed = sum(not outcome.good for outcome in measured.asked)
        waits, alive = worst(measured.asked), worst(measured.alive)
        dead = [outcome for outcome in measured.alive if not outcome.good]
        first_use = max([one.first_use for one in measured.revoked], default=0.0)
        revoking = max([one.took for one in measured.revoked], default=0.0)
        lag = max([one.lag for one in measured.revoked], default=0.0)
        refused = sum(one.refused for one in measured.revoked)
        usage = measured.usage
        found = (
            (not measured.asked, "no request was made"),
            (not measured.revoked, "no key was revoked"),
            (failed > self.failed, f"requests that failed: {failed}"),
            (waits > self.wait, f"a request waited {waits:.1f} s"),
            (bool(dead), f"failures of `/health/alive`: {len(dead)}"),
            (alive > self.alive, f"`/health/alive` took {alive:.1f} s"),
            (first_use > self.first_use, f"a new key was not taken for {first_use:.1f} s"),
            (refused > 0, f"revocations that were refused: {refused}"),
            (revoking > self.revoking, f"a revocation took {revoking:.1f} s"),
            (lag > self.lag, f"a revoked key lived {lag:.1f} s"),
            (usage.memory - usage.at_rest > self.growth, f"memory grew by more than {self.growth >> 20} MiB"),
            (usage.descriptors > self.descriptors, f"more than {self.descriptors} descriptors"),
        )
        yield from (text for breaks, text in found if breaks)
        yield from measured.trouble


def worst(outcomes: Sequence[Outcome]) -> float:
    """Return the longest wait, in seconds."""
    return max([outcome.wait for outcome in outcomes], default=0.0)
