"""The demo: a gateway with the routes that ship, in front of a stand-in ledger, in one process."""

from gateway.demo.process import demo, run

__all__ = ["demo", "run"]
