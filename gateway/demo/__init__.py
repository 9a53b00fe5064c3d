"""The demo: a gateway with the packaged routes in front of a stand-in ledger, in one process."""

from gateway.demo.runner import demo, run

__all__ = ["demo", "run"]
