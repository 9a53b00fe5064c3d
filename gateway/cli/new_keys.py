"""A new key, and where it goes: to a terminal, into a file, or down a pipe that was asked for.

Rules kept here:
- A key is written once. On a pipe it could land in a log, so that takes a flag of its own.
- A file is made before the key is, for its owner alone and with room for it, and never written over.
- Where a key goes is settled before anything is stored. If it cannot be written all the same, its id is told:
  it is stored, and nobody has it.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType

import click

from gateway.cli.arguments import wrong
from gateway.cli.key_display import printable, public, say_fields, write_json
from gateway.cli.key_store import fail
from gateway.config import Config
from gateway.keys.minting import KEY_LENGTH
from gateway.keys.record import KeyRecord
from gateway.policy.routes import Access
from gateway.server.exit_codes import Exit


@dataclass(frozen=True, slots=True)
class NewKey:
    """The record of a key just made, and the key; `doubt` is why it may be gone, or go with a failover."""

    record: KeyRecord
    key: str = field(repr=False)
    doubt: str = ""


out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Write the key into this new file, for you alone."
)
print_option = click.option("--print-key", is_flag=True, help="Print the key although this is no terminal.")


class KeyPlace:
    """Where a new key is to be written, settled when this is made; a file in which none came to stand goes.

    Exits with 2 if there is no such place.
    """

    def __init__(self, out: Path | None, *, print_key: bool) -> None:
        self.out = out
        self._written = False
        if out == Path("-"):
            wrong("--out", "name a file; for standard output say --print-key instead")
        if out is not None:
            try:
                self._file = new_file(out, _line(" " * KEY_LENGTH))
            except OSError as error:
                todo = ": name a new file" if isinstance(error, FileExistsError) else ""
                fail(f"{printable(str(out))}: {error.strerror}{todo}", Exit.USAGE)
        elif sys.stdout.name == os.devnull:
            # What a closed stream was replaced by (`console.standard_streams`).
            fail("standard output is closed, and the key would be lost: write it with --out FILE", Exit.USAGE)
        elif not sys.stdout.isatty() and not print_key:
            fail(
                "standard output is no terminal, and the key could land in a log: "
                "write it with --out FILE, or say --print-key",
                Exit.USAGE,
            )

    def __enter__(self) -> KeyPlace:
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
            os.fsync(self._file)
        self._written = True


def new_file(path: Path, room: bytes = b"") -> int:
    """A file that was not there, for its owner alone, open to be written over the room that it takes.

    Raises OSError, and leaves none behind.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(file, 0o600)
        os.write(file, room)
        os.fsync(file)
    except BaseException:
        # A signal too may end the command here.
        os.close(file)
        path.unlink(missing_ok=True)
        raise
    return file


def _line(key: str) -> bytes:
    return f"{key}\n".encode("ascii")


def hand_over(config: Config, made: NewKey, place: KeyPlace, output: str, now: datetime) -> None:
    """Write the key, and what goes with it: to stderr, or as one JSON object to stdout.

    Exits with 1 if it could not be written, with 3 if there is a doubt about it.
    """
    record, members = made.record, public(made.record, now)
    try:
        if output == "json" and place.out is None:
            write_json({**members, "key": made.key})
        else:
            place.write(made.key)
    except OSError as error:
        stored = "may be stored" if made.doubt else "is stored"
        told = f"the key could not be written: {error.strerror}; {record.id} {stored}, and nobody has it"
        fail(f"{told}: revoke it", Exit.FAILED)
    if output != "json":
        _say_about(config, record, place)
    elif place.out is not None:
        write_json(members)
    if made.doubt:
        fail(made.doubt, Exit.DEPENDENCY)


def _say_about(config: Config, record: KeyRecord, place: KeyPlace) -> None:
    say_fields(
        [
            ("id", record.id),
            ("owner", record.owner),
            ("name", record.name),
            ("scopes", ", ".join(record.scopes)),
            ("expires", record.expires_at),
            ("replaces", record.replaces),
            ("key", "shown once, above" if place.out is None else f"in {place.out}"),
            ("try", curl_line(config, record, place.out)),
        ],
        err=True,
    )


def curl_line(config: Config, record: KeyRecord, out: Path | None) -> str:
    """A line to paste that uses the key without showing it, not even among the processes."""
    listen = config.listen[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104
    path, is_open = _readable(config, record)
    url = shlex.quote(f"http://{replace(listen, host=host)}{path}")
    key = f"$(cat {shlex.quote(printable(str(out)))})" if out is not None else "$BLNK_KEY"
    ask = "" if out is not None else "read -rs BLNK_KEY; "
    note = "" if is_open else "  # 403: its scopes open no plain GET"
    return f"{ask}printf 'X-Blnk-Key: %s' \"{key}\" | curl {url} -H @-{note}"


def _readable(config: Config, record: KeyRecord) -> tuple[str, bool]:
    """The path of the first GET that the scopes open, or of any, and whether they do."""
    listed = [
        route
        for route in config.routes.routes
        if route.method == "GET" and "{" not in route.pattern and route.access is Access.SCOPES
    ]
    opened = [route for route in listed if not route.accepted_scopes.isdisjoint(record.scopes)]
    return next((route.pattern for route in opened + listed), "/"), bool(opened)
