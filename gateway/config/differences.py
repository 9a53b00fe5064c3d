"""Compares the settings of two configurations, other than their routes.

Rules kept here:
- Seven changes let someone do more: `keys.master` accepts the master key from clients, `keys.report_only` has
  a new key or a later date, `keys.grace` is longer, `decide.unstamped` allows requests without a stamp,
  `tls.client_ca` asks clients for no certificate any more, `trusted_proxies` has a new peer,
  `proxy_protocol` lets the trusted peers name any client.
- A value that names an environment variable may be anything: the worst is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from gateway.config.model import Config
from gateway.config.peers import TrustedPeers
from gateway.config.rendering import each_setting

MASTER = "keys.master"
REPORT_ONLY = "keys.report_only"
GRACE = "keys.grace"
UNSTAMPED = "decide.unstamped"
CLIENT_CA = "tls.client_ca"
TRUSTED = "trusted_proxies"
PROXY_PROTOCOL = "proxy_protocol"


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that differs, with both values as a file would have them; no secret is shown."""

    path: str
    old: str
    new: str
    widens: bool = False


def differences(old: Config, new: Config) -> tuple[Difference, ...]:
    """Return every setting that differs, in the order of the model."""
    wider = {
        MASTER: _may_accept(old, new),
        REPORT_ONLY: _may_report(old, new),
        GRACE: GRACE in new.unset or new.keys.grace > old.keys.grace,
        UNSTAMPED: UNSTAMPED in new.unset or new.decide.unstamped == "allow",
        CLIENT_CA: CLIENT_CA in new.unset or new.tls.client_ca is None,
        TRUSTED: _may_trust(old, new),
        PROXY_PROTOCOL: PROXY_PROTOCOL in new.unset or new.proxy_protocol,
    }
    found = []
    for (path, before, was), (_, after, now) in zip(each_setting(old), each_setting(new), strict=True):
        if before != after or was != now:
            found.append(Difference(path, was, now, wider.get(path, False)))
    return tuple(found)


def _may_accept(old: Config, new: Config) -> bool:
    """Return whether `old` may deny the master key and `new` may accept it."""
    denied = MASTER in old.unset or old.keys.master == "deny"
    return denied and (MASTER in new.unset or new.keys.master == "accept")


def _may_report(old: Config, new: Config) -> bool:
    """Return whether `new` may let a key pass for longer than `old`."""
    if REPORT_ONLY in new.unset:
        return True
    before, after = old.keys.report_only, new.keys.report_only
    return any(until > before.until(key_id) for key_id, until in after.dates)


def _may_trust(old: Config, new: Config) -> bool:
    """Return whether `new` may trust a peer that `old` does not."""
    if TRUSTED in new.unset:
        return True
    return not all(any(_includes(one, peers) for one in old.trusted_proxies) for peers in new.trusted_proxies)


def _includes(one: TrustedPeers, other: TrustedPeers) -> bool:
    """Return whether all peers of `other` are peers of `one`."""
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return other.subnet_of(one)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return other.subnet_of(one)
    return one == other
