"""Run a command with the system calls and memory that the unit for systemd leaves it.

    python3 confined.py CALLS COMMAND...

The file CALLS has the names of the calls that are allowed; others fail with EPERM, as in the unit. It needs
libseccomp, which systemd uses itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_ALLOW = 0x7FFF0000  # SCMP_ACT_ALLOW
_FAIL = 0x00050000  # SCMP_ACT_ERRNO
_PR_SET_MDWE = 65
_REFUSE_EXEC_GAIN = 1


def _confine(allowed: list[str]) -> None:
    """Refuse memory that is writable and executable, and all other calls. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "Linux before 6.3 has no MDWE")
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(_FAIL | errno.EPERM))
    for name in allowed:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # calls of other architectures have no number here
            library.seccomp_rule_add(rules, _ALLOW, number, 0)
    failed = library.seccomp_load(rules)
    if failed:
        raise OSError(-failed, "seccomp")


if __name__ == "__main__":
    _confine(Path(sys.argv[1]).read_text().split())
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
