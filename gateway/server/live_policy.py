"""The policy that is live, as health, metrics and log show it; and its replacement by another one.

Rules kept here:
- Each policy that is made live, and each file that is refused, is audited with its SHA-256.
- What `check` warns of is logged, at the start and after each reload.
- Readiness names each thing that is report-only, with its date, until that date has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.admin.health import Health
from gateway.config import Config
from gateway.config.report_only_dates import reported
from gateway.server.audit_recorder import AuditRecorder
from gateway.server.live_config import LiveConfig
from gateway.server.reload import Reload, ReloadResult, Source
from gateway.telemetry.policy_metrics import LastReload, PolicyMetrics

MOST_NOTICES: Final = 50


@dataclass(frozen=True, slots=True)
class PolicyTakers:
    """The takers of the policy that is live, and of the outcome of each reload."""

    health: Health
    log: FilteringBoundLogger
    audit: AuditRecorder


class LivePolicy:
    """Shows the policy that is live.

    Args:
        live: the configuration that is live.
        takers: get the policy, and the outcome of each reload.
        always: a notice that readiness shows for as long as the process runs, or "".
        now: Unix seconds.

    Attributes:
        before: the configuration that was live before the last reload; None before the first one.
    """

    def __init__(
        self,
        live: LiveConfig,
        takers: PolicyTakers,
        always: str,
        now: Callable[[], float],
    ) -> None:
        self._health = takers.health
        self._log = takers.log
        self._audit = takers.audit
        self._live = live
        self.before: Config | None = None
        self._always = [always] if always else []
        self._now = now
        self._last = ReloadResult(now(), live.config.sha256)
        self.metrics = PolicyMetrics(lambda: takers.health.policy_sha256, self._last_reload)
        takers.health.show_notices(self._notices)
        self._show(live.config)
        self._remember(self._last)
        self._audit.policy_live(live.config.sha256)

    def follow(self, source: Source, config: Config) -> Reload:
        """Return the reload that follows the file of `config`, once it is run."""
        return Reload(source, config, self, self._now)

    def adopt(self, config: Config) -> None:
        """Make another configuration live."""
        self.before = self._live.config
        self._live.adopt(config)
        self._show(config)

    def _show(self, config: Config) -> None:
        for warning in config.warnings:
            self._log.warning("configuration", problem=str(warning))
        self._reported = reported(config.routes, config.keys.report_only)
        self._health.show_policy(config.sha256, config.ready_requires)

    def show_result(self, outcome: ReloadResult) -> None:
        """Show the outcome of a file, in health, metrics and the log."""
        self._remember(outcome)
        live = self._health.policy_sha256
        if outcome.success:
            self._log.info("reloaded", policy_sha256=live)
            self._audit.policy_live(live)
        else:
            self._log.error(
                "reload refused", problems=outcome.problems, refused_sha256=outcome.sha256, policy_sha256=live
            )
            self._audit.policy_refused(outcome.sha256, outcome.problems, live)

    def _remember(self, outcome: ReloadResult) -> None:
        self._last = outcome
        at = datetime.fromtimestamp(outcome.at, UTC).isoformat(timespec="milliseconds")
        self._health.show_reload(
            {
                "success": outcome.success,
                "at": at.replace("+00:00", "Z"),
                "sha256": outcome.sha256,
                "problems": list(outcome.problems),
            }
        )

    def _last_reload(self) -> LastReload:
        return LastReload(self._last.success, self._last.at)

    def _notices(self) -> list[str]:
        now = self._now()
        found = [text for text, until in self._reported.items() if now < until]
        if len(found) > MOST_NOTICES:
            found[MOST_NOTICES:] = [f"and {len(found) - MOST_NOTICES} more that are report-only"]
        return self._always + found
