"""Finds what this machine does not give to a configuration: open files, and ports to listen on."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config import Config, ListenAddress, UnixAddress
from gateway.server.descriptors import fit, hard_limit, too_few
from gateway.server.sockets import CannotListenError, bound
from gateway.server.unix_sockets import why_not_usable


def describe_missing_files(config: Config) -> Iterator[str]:
    """Yield a text for each configured number of connections that the limit of open files does not allow."""
    limit = hard_limit()
    if problem := too_few(limit):
        yield problem
    else:
        yield from map(str, fit(config, limit).shortfalls)


def describe_taken_ports(config: Config) -> Iterator[str]:
    """Yield a text for each address on which the gateway cannot listen now."""
    wanted: list[tuple[str, ListenAddress]] = [("admin", config.admin)]
    wanted += [("listen", address) for address in config.listen]
    if config.health is not None:
        wanted.append(("health", config.health))
    if config.decide.listen is not None:
        wanted.append(("decide.listen", config.decide.listen))
    for setting, address in wanted:
        if isinstance(address, UnixAddress):
            if reason := why_not_usable(address):
                yield str(CannotListenError(setting, address, reason))
            continue
        try:
            opened = bound(setting, address)
        except CannotListenError as problem:
            yield str(problem)
        else:
            for listening in opened:
                listening.close()
