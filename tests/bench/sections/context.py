"""The wishes of the user, the cores of the machine, and progress, as each section gets them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.options import Options
from tests.bench.samples import Amount
from tests.bench.servers import Cores


@dataclass(frozen=True, slots=True)
class Context:
    """A run of the benchmark."""

    options: Options
    cores: Cores

    def amount(self) -> Amount:
        """Return the amount of load that the user wishes."""
        wanted = self.options
        return Amount(wanted.seconds, wanted.rounds, wanted.connections, self.cores)

    def say(self, text: str) -> None:
        """Print one line of progress."""
        sys.stderr.write(f"tests.bench: {text}\n")
        sys.stderr.flush()

    def teller(self, section: str) -> Callable[[str], None]:
        """Return a function that prints progress of a section."""
        return lambda text: self.say(f"{section}: {text}")
