"""Decides whether a configuration lets several processes share the ports for clients and decisions."""

from __future__ import annotations

from gateway.config import Address, Config, UnixAddress


def why_not_shared(config: Config, platform: str) -> str:
    """Return why processes with this configuration cannot share a port, and what to do; empty if they can.

    `platform` is that of `sys.platform`.
    """
    if platform != "linux":
        return "only Linux spreads connections over processes: run one process, or several on different ports"
    if config.keys.in_memory:
        return (
            "keys.store is memory://, so each process would have keys of its own: write a redis:// URL, "
            "which all processes share, or run one process without this option"
        )
    if any(isinstance(address, UnixAddress) for address in config.listen):
        return (
            "listen names a Unix socket, and Linux gives a path to one process only: write host:port, or a "
            "path of its own for each process without this option"
        )
    decides = () if config.decide.listen is None else (config.decide.listen,)
    for setting, addresses in (("listen", config.listen), ("decide.listen", decides)):
        if any(isinstance(address, Address) and address.port == 0 for address in addresses):
            return (
                f"{setting} has port 0, so each process would get a port of its own: write the port that all "
                "processes share"
            )
    return ""
