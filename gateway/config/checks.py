"""Checks what the settings must be together, after each of them was read for itself.

Rules kept here:
- There is one master key, an admin listener that others can reach has a token, and no two listeners clash.
- Somebody is trusted to ask for decisions where there is a listener for it; one beyond loopback is a warning.
- The gateway is not its own upstream, and the buffer holds at least one body.
- The audit stream is larger than what one owner can write to it.
- A ratio of traces that does nothing, or costs much, is a warning.
- A certificate has its key, and each setting of TLS has a use.
- A report-only date is at most 30 days ahead; a date that is over is a warning.
"""

from __future__ import annotations

from itertools import combinations

from gateway.config import report_only_dates
from gateway.config.addresses import Address, ListenAddress
from gateway.config.peers import UNIX_PEERS
from gateway.config.sections.tls import TlsConfig
from gateway.config.sections.upstream import UpstreamConfig
from gateway.config.settings_draft import MASTER_KEYS, SettingsDraft
from gateway.config.unix_addresses import UnixAddress
from gateway.config.urls import MEMORY_STORE
from gateway.keys.quota import RECORDS_PER_KEY
from gateway.policy.routes import RouteTable

LISTENERS = ("listen", "admin", "health", "decide.listen")
_ENTRIES_PER_RECORD = 2
"""Entries of the audit stream for a key that is created and revoked."""

_MUCH_TRACED = 0.1


def check_together(draft: SettingsDraft, routes: RouteTable | None, now: float) -> None:
    """Add a problem or a warning for each rule that is broken; `now` is in Unix seconds."""
    _check_master_key(draft)
    _check_authority(draft)
    _check_admin(draft)
    _check_listeners(draft)
    _check_decide(draft)
    _check_unix_sockets(draft)
    _check_proxy_protocol(draft)
    _check_limits(draft)
    _check_audit(draft)
    _check_upstream(draft)
    _check_tracing(draft)
    _check_tls(draft)
    _check_upstream_tls(draft)
    _check_report_only(draft, routes, now)


def _check_master_key(draft: SettingsDraft) -> None:
    given = [path for path in MASTER_KEYS if path in draft.places]
    if len(given) == 2 and not any(draft.values[path] is None for path in given):
        draft.refuse_setting(given[1], "keep one of master_key and master_key_file")
    if not given:
        draft.refuse(
            1, "upstream.master_key is missing: write 'master_key: ${BLNK_MASTER_KEY}', or master_key_file"
        )


def _check_authority(draft: SettingsDraft) -> None:
    if draft.values["keys.authority"] == "core" and "keys.core_database" not in draft.places:
        draft.refuse_setting(
            "keys.authority",
            "core needs keys.core_database: write postgres://user:password@host:5432/database",
        )
    if draft.values["keys.authority"] == "core" and draft.values["keys.prefix"]:
        draft.refuse_setting(
            "keys.prefix",
            "with keys.authority: core, Core mints the keys, without a prefix: remove this",
        )


def _check_admin(draft: SettingsDraft) -> None:
    admin = draft.values["admin"]
    if isinstance(admin, Address) and not admin.is_loopback and "admin_token_file" not in draft.places:
        draft.refuse_setting(
            "admin",
            "others can reach this address: name an admin_token_file, or write a loopback address, as "
            "127.0.0.1:5002",
        )


def _check_listeners(draft: SettingsDraft) -> None:
    known = [path for path in LISTENERS if path not in draft.unset and draft.values[path] is not None]
    listening = [(path, address) for path in known for address in _addresses(draft.values[path])]
    for (first, one), (second, another) in combinations(listening, 2):
        if one.clashes(another):
            # One of the two may be a default, which has no place.
            place, other = (second, first) if second in draft.places else (first, second)
            text = f"{other} takes this port already: write another one"
            if first == second:
                text = "two of the addresses take the same port: remove one of them"
            draft.refuse_setting(place, text)


def _addresses(value: ListenAddress | tuple[ListenAddress, ...]) -> tuple[ListenAddress, ...]:
    return value if isinstance(value, tuple) else (value,)


def _check_decide(draft: SettingsDraft) -> None:
    if draft.values["decide.listen"] is None:
        return
    if draft.values["trusted_proxies"] == () and "trusted_proxies" not in draft.unset:
        draft.refuse_setting(
            "decide.listen",
            "nobody may ask there: list the addresses of the ingress in trusted_proxies, as [127.0.0.1]",
        )
    address = draft.values["decide.listen"]
    if isinstance(address, Address) and not address.is_loopback:
        draft.warn_setting(
            "decide.listen",
            "this listener speaks no TLS, so others on the network can read the keys of clients: write a "
            "loopback address, as 127.0.0.1:5004",
        )
    if draft.values["decide.unstamped"] == "allow":
        draft.warn_setting(
            "decide.unstamped",
            "nothing stamps the requests that are allowed: a client can leave the stamp out, or forge it",
        )


def _check_unix_sockets(draft: SettingsDraft) -> None:
    """Warn of settings about Unix sockets that nothing uses."""
    if any(isinstance(one, UnixAddress) for one in draft.values["listen"] or ()):
        return
    text = "listen names no Unix socket: remove this, or write unix:/run/blnk-gateway/gateway.sock there"
    if "listen_mode" in draft.places:
        draft.warn_setting("listen_mode", text)
    if UNIX_PEERS in (draft.values["trusted_proxies"] or ()):
        draft.warn_setting("trusted_proxies", text)


def _check_proxy_protocol(draft: SettingsDraft) -> None:
    """Refuse a listener that nobody may use, and warn of one where every client may name another one."""
    trusted = draft.values["trusted_proxies"]
    if not draft.values["proxy_protocol"] or trusted is None or "trusted_proxies" in draft.unset:
        return
    if not trusted:
        text = "nobody could connect: name the proxies that send PROXY headers in trusted_proxies"
        draft.refuse_setting("proxy_protocol", text)
    elif any(not isinstance(peers, str) and not peers.prefixlen for peers in trusted):
        text = "everyone is trusted, so any client could send the PROXY header of another: name the proxies"
        draft.warn_setting("trusted_proxies", text)


def _check_limits(draft: SettingsDraft) -> None:
    body, buffered = draft.values["limits.body"], draft.values["limits.buffered"]
    if body and buffered and buffered < body:
        if "limits.buffered" in draft.places:
            draft.refuse_setting("limits.buffered", "this must hold one body: write at least limits.body")
        else:
            draft.refuse_setting("limits.body", "limits.buffered must hold one body: raise it as well")
    if draft.values["limits.on_store_failure"] == "deny" and draft.values["keys.store"] == MEMORY_STORE:
        draft.warn_setting("limits.on_store_failure", "keys.store is memory://, so limits are not shared")


def _check_audit(draft: SettingsDraft) -> None:
    kept, per_owner = draft.values["audit.kept"], draft.values["keys.per_owner"]
    if kept and per_owner and kept < per_owner * RECORDS_PER_KEY * _ENTRIES_PER_RECORD:
        draft.warn_setting(
            "audit.kept" if "audit.kept" in draft.places else "keys.per_owner",
            "an owner who creates and revokes as many keys as keys.per_owner allows writes more entries than "
            "audit.kept: raise audit.kept",
        )


def _check_upstream(draft: SettingsDraft) -> None:
    url, listen = draft.values["upstream.url"], draft.values["listen"]
    if not url or not listen or not draft.unset.isdisjoint(("upstream.url", "listen")):
        return
    upstream = UpstreamConfig(url=url)
    listeners = listen if isinstance(listen, tuple) else (listen,)
    if any(one.is_reached_at(upstream.host, upstream.port) for one in listeners):
        path = "upstream.url" if "upstream.url" in draft.places else "listen"
        draft.refuse_setting(path, "the gateway itself listens there: write the address of Core")


def _check_tracing(draft: SettingsDraft) -> None:
    endpoint, ratio = draft.values["tracing.endpoint"], draft.values["tracing.ratio"]
    if "tracing.ratio" not in draft.places:
        return
    if "tracing.endpoint" not in draft.places:
        draft.warn_setting("tracing.ratio", "nothing is traced without tracing.endpoint: write one")
    elif endpoint and ratio is not None and ratio > _MUCH_TRACED:
        draft.warn_setting(
            "tracing.ratio",
            "a traced request costs several times as much as another: write 0.1 or less in production",
        )


def _check_tls(draft: SettingsDraft) -> None:
    _check_pair(draft, "tls")
    listeners = draft.values["tls.listeners"]
    if listeners is None:
        return
    given = {"tls.client_ca"} if listeners == TlsConfig().listeners else {"tls.client_ca", "tls.listeners"}
    if not {"tls.certificate", "tls.key"} & draft.places.keys():
        for path in sorted(given & draft.places.keys()):
            draft.refuse_setting(path, "nothing speaks TLS without tls.certificate and tls.key: write both")
    if not listeners:
        draft.refuse_setting("tls.listeners", "write at least one of listen, admin and health, as [listen]")
    if "health" in listeners and "health" not in draft.places:
        text = "there is no health listener: write its address, or remove it here"
        draft.refuse_setting("tls.listeners", text)
    if "tls.client_ca" in draft.places and not {"listen", "admin"} & set(listeners):
        text = "nobody is asked for a certificate: health never asks; write listen or admin in tls.listeners"
        draft.refuse_setting("tls.client_ca", text)


def _check_pair(draft: SettingsDraft, section: str) -> None:
    """Refuse a certificate without its key, and a key without its certificate."""
    paths = (f"{section}.certificate", f"{section}.key")
    for given, other in (paths, paths[::-1]):
        if given in draft.places and other not in draft.places:
            draft.refuse_setting(given, f"this needs {other} as well: write both")


def _check_upstream_tls(draft: SettingsDraft) -> None:
    _check_pair(draft, "upstream")
    url = draft.values["upstream.url"]
    if not url or "upstream.url" in draft.unset or UpstreamConfig(url=url).tls:
        return
    for path in ("upstream.ca_file", "upstream.certificate", "upstream.key"):
        if path in draft.places:
            draft.refuse_setting(path, "upstream.url is http://: write https://, or remove this")


def _check_report_only(draft: SettingsDraft, routes: RouteTable | None, now: float) -> None:
    for route in routes.routes if routes is not None else ():
        if report_only_dates.too_far(route.report_until, now):
            draft.refuse(route.line, f"{route.name}: {report_only_dates.TOO_FAR}")
        elif 0.0 < route.report_until <= now:
            draft.warn(route.line, f"{route.name}: {report_only_dates.expired_text(route.report_until)}")
    dates = draft.values["keys.report_only"]
    for _, until in dates.dates if dates is not None else ():
        if report_only_dates.too_far(until, now):
            draft.refuse_setting("keys.report_only", report_only_dates.TOO_FAR)
        elif until <= now:
            draft.warn_setting("keys.report_only", report_only_dates.expired_text(until))
