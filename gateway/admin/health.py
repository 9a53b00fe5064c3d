"""The health of the gateway: what the server knows of itself, and the report of `/health/ready`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Health:
    """The state that the server keeps up to date and the listeners show.

    Attributes:
        version: that of the gateway.
        ready_requires: the dependencies whose loss costs readiness.
        policy_sha256: the SHA-256 of the live configuration file.
        core_seen: True once Core was seen secure and accepted the master key.
        core_reason: why it is not.
        listens: False while the gateway does not listen for clients yet.
        draining: True once the gateway ends.
        degraded: what is wrong with each dependency ("upstream", "store") that is lost.
        warnings: what an operator has to mend.
        notices: warnings that come and go by themselves.
        last_reload: the outcome of the last configuration file that was tried.
    """

    version: str
    ready_requires: tuple[str, ...] = ()
    policy_sha256: str = ""
    core_seen: bool = False
    core_reason: str = "Core has not been asked yet"
    listens: bool = True
    draining: bool = False
    degraded: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notices: Callable[[], list[str]] = list
    last_reload: dict[str, object] = field(default_factory=dict)

    def core_waits(self, reason: str) -> None:
        """Take note why Core is not verified yet."""
        self.core_reason = reason

    def core_verified(self) -> None:
        """Take note that Core is secure and accepted the master key."""
        self.core_seen = True

    def listens_later(self) -> None:
        """Take note that the gateway listens for clients only once Core is verified."""
        self.listens = False

    def listens_now(self) -> None:
        """Take note that the gateway listens for clients."""
        self.listens = True

    def drain(self) -> None:
        """Take note that the gateway ends."""
        self.draining = True

    def degrade(self, name: str, reason: str) -> bool:
        """Take note that a dependency is lost; return True if it was not before."""
        new = name not in self.degraded
        self.degraded[name] = reason
        return new

    def restore(self, name: str) -> bool:
        """Take note that a dependency responds; return True if it was lost before."""
        return self.degraded.pop(name, None) is not None

    def show_policy(self, sha256: str, ready_requires: tuple[str, ...]) -> None:
        """Take note of the policy that is live."""
        self.policy_sha256 = sha256
        self.ready_requires = ready_requires

    def show_notices(self, notices: Callable[[], list[str]]) -> None:
        """Take the warnings that come and go by themselves from `notices`."""
        self.notices = notices

    def show_reload(self, outcome: dict[str, object]) -> None:
        """Take note of the outcome of the last file."""
        self.last_reload = outcome

    def replace_warnings(self, before: Collection[str], now: Sequence[str]) -> None:
        """Show `now` instead of the warnings `before`, beside those of others."""
        self.warnings[:] = [*(text for text in self.warnings if text not in before), *now]

    @property
    def reasons(self) -> list[str]:
        """The reasons why the gateway is not ready; empty if it is."""
        reasons = []
        if not self.core_seen:
            reasons.append(self.core_reason)
        elif not self.listens:
            reasons.append("the port for clients is not open yet")
        if self.draining:
            reasons.append("draining")
        required = (name for name in self.ready_requires if name in self.degraded)
        return reasons + [f"{name}: {self.degraded[name]}" for name in required]

    @property
    def core(self) -> str:
        """The reason why Core cannot be used now; "" if it can."""
        return self.degraded.get("upstream", "") if self.core_seen else self.core_reason

    @property
    def ready(self) -> bool:
        """True if clients may be sent here."""
        return not self.reasons

    def report(self) -> tuple[int, dict[str, object]]:
        """Return the status, 200 or 503, and the members of `/health/ready`."""
        reasons = self.reasons
        status = "not ready" if reasons else "degraded" if self.degraded else "ready"
        return 503 if reasons else 200, {
            "status": status,
            "reasons": reasons,
            "degraded": dict(self.degraded),
            "warnings": [*self.warnings, *self.notices()],
            "policy_sha256": self.policy_sha256,
            "last_reload": dict(self.last_reload),
            "version": self.version,
        }
