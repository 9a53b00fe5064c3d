"""Names who runs a command, for the records that the command writes."""

from __future__ import annotations

import os
import pwd


def operator_name() -> str:
    """Return who runs this, as records name them: `cli:` and the login of the process's user."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"
