"""The settings of keys and of their store."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config import report_only_dates, urls, values
from gateway.config.setting import described
from gateway.policy.report_only import NO_DATES, KeyDates


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysConfig:
    """The authority and the store of keys, and the use of the master key."""

    authority: str = field(
        default="gateway",
        metadata=described(
            values.choice("gateway", "core"),
            "`gateway`: the store is the only record of keys; `core`: Core's table is the record, and "
            "the store caches it",
        ),
    )
    core_database: str = field(
        default="",
        repr=False,
        metadata=described(
            urls.database_url,
            "Core's PostgreSQL, `postgres://user:password@host:5432/database`, for `keys.authority: "
            "core` and the import; read access is enough",
        ),
    )
    store: str = field(
        repr=False,
        metadata=described(
            urls.store_url,
            "`redis://`, `rediss://`, each also with `+sentinel` or `+cluster`; or `memory://` for a trial",
            "redis://127.0.0.1:6379/0",
        ),
    )
    grace: float = field(
        default=0.0,
        metadata=described(
            values.duration,
            "how long known keys keep working while the store fails; a revoked key may work that long "
            "too; `0s`: not at all",
        ),
    )
    replicas: int = field(
        default=0,
        metadata=described(
            values.count(0, 16), "the least number of Redis replicas that must acknowledge a change"
        ),
    )
    per_owner: int = field(
        default=1000,
        metadata=described(
            values.count(0),
            "the most live keys of one owner, and four times as many records, dead keys included; "
            "beyond that no key is created for the owner, not even with the master key; 0 is no limit",
        ),
    )
    prefix: str = field(
        default="",
        metadata=described(
            values.key_prefix,
            "what new keys begin with, such as `blnk_live_`: at most 20 lower-case letters, digits "
            "and `_`, with `_` at the end; they end with a checksum, [for secret "
            "scanners](README.md#secret-scanners); not where Core mints the keys; imported keys that "
            "begin with it and have no checksum are refused as soon as a gateway has not cached them",
        ),
    )
    master: str = field(
        default="accept",
        metadata=described(
            values.choice("accept", "deny"), "whether a client may send the master key: `accept` or `deny`"
        ),
    )

    report_only: KeyDates = field(
        default=NO_DATES,
        metadata=described(
            report_only_dates.key_dates,
            'key ids with dates, `api_key_...: "2026-12-15"`: until that date, a request that lacks '
            "only a scope passes and is reported",
        ),
    )

    @property
    def in_memory(self) -> bool:
        """Return True if the store is the memory of one process, which no other can use."""
        return self.store == urls.MEMORY_STORE

    @property
    def shown_store(self) -> str:
        """Return the store's URL without user, password and query, for logs."""
        scheme, _, rest = self.store.partition("://")
        return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
