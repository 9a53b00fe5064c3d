"""Hands a new key over: prints it on a terminal, or writes it into a file, or prints it on a pipe on request.

Rules kept here:
- A key is written once. On a pipe it could end up in a log, so printing it there takes an option of its own.
- The file is created before the key is, for its owner alone and with room for the key; no file is ever
  overwritten.
- The destination is settled before anything is stored. If the key cannot be written all the same, its id is
  printed, because the key is stored and nobody has it.
"""

from __future__ import annotations

import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import click

from gateway.cli.arguments import refuse_option
from gateway.cli.console import fail, write_json
from gateway.cli.keys.display import public, say_fields, terms_fields
from gateway.cli.keys.new_key import NewKey
from gateway.config import Config, UnixAddress
from gateway.keys.minting import MAX_KEY_LENGTH
from gateway.keys.record import KeyRecord
from gateway.policy.explanation import printable
from gateway.policy.routes import Access
from gateway.server.exit_codes import Exit

out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the key into this new file, which only you can read.",
)
print_option = click.option("--print-key", is_flag=True, help="Print the key although this is no terminal.")


class KeyDestination:
    """The destination of one new key, settled when this is constructed; a file without a key is removed.

    Exits with 2 if the key cannot be written there.
    """

    def __init__(self, out: Path | None, *, print_key: bool) -> None:
        self.out = out
        self._written = False
        if out == Path("-"):
            refuse_option("--out", "name a file; for standard output use --print-key instead")
        if out is not None:
            try:
                self._file = create_file(out, _line(" " * MAX_KEY_LENGTH))
            except OSError as error:
                fail_for_file(out, error)
        elif sys.stdout.name == os.devnull:
            # Stands in for a closed stream (`console.standard_streams`).
            fail(
                "standard output is closed, so the key would be lost: write it into a file with --out FILE",
                Exit.USAGE,
            )
        elif not sys.stdout.isatty() and not print_key:
            fail(
                "standard output is no terminal, so the key could end up in a log: "
                "write it into a file with --out FILE, or print it with --print-key",
                Exit.USAGE,
            )

    def __enter__(self) -> KeyDestination:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.out is not None:
            os.close(self._file)
            if not self._written:
                self.out.unlink(missing_ok=True)

    def write(self, key: str) -> None:
        """Write the key, once. Raises OSError."""
        if self.out is None:
            click.echo(key)
        else:
            os.pwrite(self._file, _line(key), 0)
            # The room was for the longest key.
            os.ftruncate(self._file, len(_line(key)))
            os.fsync(self._file)
        self._written = True


def create_file(path: Path, room: bytes = b"") -> int:
    """Create a file for its owner alone; return its descriptor. `room` is written to take up space on disk.

    Raises OSError, also if the file exists, and leaves no file behind then.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(file, 0o600)
        os.write(file, room)
        os.fsync(file)
    except BaseException:
        # A signal can end the command here, too.
        os.close(file)
        path.unlink(missing_ok=True)
        raise
    return file


def fail_for_file(path: Path, error: OSError) -> NoReturn:
    """Exit with 2 for a file that cannot be created or written."""
    advice = ": name a new file" if isinstance(error, FileExistsError) else ""
    fail(f"{printable(str(path))}: {error.strerror}{advice}", Exit.USAGE)


def _line(key: str) -> bytes:
    return f"{key}\n".encode("ascii")


def hand_over(config: Config, made: NewKey, destination: KeyDestination, output: str, now: datetime) -> None:
    """Write the key; print its record to stderr, or as one JSON object to stdout.

    Exits with 1 if the key could not be written, with 3 if there is a warning about it.
    """
    record, members = made.record, public(made.record, now)
    try:
        if output == "json" and destination.out is None:
            write_json({**members, "key": made.key})
        else:
            destination.write(made.key)
    except OSError as error:
        stored = "may be stored" if made.warning else "is stored"
        fail(
            f"the key could not be written: {error.strerror}; "
            f"{record.id} {stored}, and nobody has the key: revoke it",
            Exit.FAILED,
        )
    if output != "json":
        _say_record(config, record, destination)
    elif destination.out is not None:
        write_json(members)
    if made.warning:
        fail(made.warning, Exit.DEPENDENCY)


def _say_record(config: Config, record: KeyRecord, destination: KeyDestination) -> None:
    say_fields(
        [
            ("id", record.id),
            ("owner", record.owner),
            ("name", record.name),
            ("scopes", ", ".join(record.scopes)),
            ("expires", str(record.expires_at)),
            ("replaces", record.replaces),
            *terms_fields(record.terms),
            ("key", "shown once, above" if destination.out is None else f"in {destination.out}"),
            ("try", curl_line(config, record, destination.out)),
        ],
        err=True,
    )


def curl_line(config: Config, record: KeyRecord, out: Path | None) -> str:
    """Return a shell line that uses the key without showing it, also not in the list of processes."""
    path, is_open = _readable(config, record)
    first = config.listen[0]
    if isinstance(first, UnixAddress):
        url = f"--unix-socket {shlex.quote(first.path)} {shlex.quote(f'http://localhost{path}')}"
    else:
        url = shlex.quote(f"http://{first.from_this_machine()}{path}")
    key = f"$(cat {shlex.quote(printable(str(out)))})" if out is not None else "$BLNK_KEY"
    ask = "" if out is not None else "read -rs BLNK_KEY; "
    note = "" if is_open else "  # 403: its scopes open no GET without parameters"
    return f"{ask}printf 'X-Blnk-Key: %s' \"{key}\" | curl {url} -H @-{note}"


def _readable(config: Config, record: KeyRecord) -> tuple[str, bool]:
    """Return the path of the first GET that the scopes open, or else of any; and whether they open it."""
    listed = [
        route
        for route in config.routes.routes
        if route.method == "GET" and "{" not in route.pattern and route.access is Access.SCOPES
    ]
    opened = [route for route in listed if not route.accepted_scopes.isdisjoint(record.scopes)]
    return next((route.pattern for route in opened + listed), "/"), bool(opened)
