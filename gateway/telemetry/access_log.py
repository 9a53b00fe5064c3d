"""The log line of a request, as JSON for programs and as text for a terminal.

Not compiled: `AccessEntry` is a struct of msgspec, which makes classes at run time.

Rules kept here:
- A line is ASCII, and its only line feed is its last byte: no client can begin a line, forge a field or
  control a terminal.
- Text that is not UTF-8 (lone surrogates of `surrogateescape`) is shown as `\\udcff`; it never raises.
- A line is bounded: no text of an entry takes more than 256 characters.
- `read_console_line` reads the lines that `ConsoleLines` writes.
"""

from __future__ import annotations

import json
import re
import time
from typing import Final

import msgspec

MAX_TEXT: Final = 256
_USUAL_LENGTH: Final = 1024
# A look-up costs a fifth of formatting the number.
_MILLISECONDS: Final = tuple(f".{millisecond:03}Z" for millisecond in range(1000))
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_BARE: Final = re.compile(r"[!#-<>-\[\]-~]+")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_LEAD: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (?:debug|info|warning|error|critical) +")
_TEXT: Final = r'"(?:[^"\\]|\\.)*"|\S+'
_REQUEST: Final = re.compile(rf"(\S+) ({_TEXT}) (\d+) [\d.]+\+[\d.]+ms(?= |$)")
_MEMBER: Final = re.compile(rf" ([a-z_]+)=({_TEXT})")

DECIDED: Final = "decide"
"""Who responded, if an ingress asked for a decision and forwards the request itself."""

DIM: Final = "\x1b[2m"
RESET: Final = "\x1b[0m"
COLOURS: Final = {
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31;1m",
}


# gc=False: entries are in no reference cycle, and thousands of them wait at once.
class AccessEntry(msgspec.Struct, gc=False):
    """One request as the log and the metrics have it.

    `time` is Unix seconds at the request's first byte. `gateway_ms` is the time spent in the gateway and
    `upstream_ms` the time spent waiting for Core (0 if Core got no request); their sum is the request's time.
    `route` is a route's name ("GET /ledgers/{id}") or "". `path` is the raw path without the query. `status`
    is 0 if the connection broke before a response. `code` is an error code of the catalogue or "".
    `would_code` is the code that report-only or `--observe` suppressed. `answered_by` is `gateway`, `core` or
    DECIDED. `trace_id` is "" if requests are not traced. `certificate_subject` is that of the client's
    certificate (RFC 4514) or "".
    """

    time: float
    request_id: str = ""
    trace_id: str = ""
    client: str = ""
    user_agent: str = ""
    method: str = ""
    route: str = ""
    path: str = ""
    key_id: str = ""
    owner: str = ""
    certificate_subject: str = ""
    decision: str = ""
    code: str = ""
    would_code: str = ""
    status: int = 0
    answered_by: str = "gateway"
    stamped: bool = False
    bytes_in: int = 0
    bytes_out: int = 0
    gateway_ms: float = 0.0
    upstream_ms: float = 0.0

    @property
    def level(self) -> str:
        """Return `error` for a 5xx, `warning` for a broken connection, `info` otherwise."""
        return "error" if self.status >= 500 else "info" if self.status else "warning"

    def would_deny(self, code: str) -> None:
        """Note that the request would be refused with this code."""
        self.decision, self.would_code = "would_deny", code


class Timestamps:
    """Formats Unix seconds as ISO 8601 in UTC with milliseconds; caches the text of the last second."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def at(self, unix_seconds: float) -> str:
        """Return for example `2026-11-23T16:44:00.123Z`."""
        milliseconds = int(unix_seconds * 1000 + 0.5)
        second = milliseconds // 1000
        if second != self._second:
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return self._prefix + _MILLISECONDS[milliseconds - second * 1000]


def json_safe(value: object) -> object:
    """Return `value` in types of JSON: lone surrogates are escaped, other objects are given by `repr`."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {str(json_safe(str(name))): json_safe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return json_safe(repr(value))


def json_text(value: object) -> str:
    """Return compact JSON in ASCII, on one line."""
    return _encode(json_safe(value)).replace("\x7f", "\\u007f")


def quoted(value: object) -> str:
    """Return `value` for a terminal: bare if it is one plain word, JSON otherwise."""
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return json_text(value)


class JsonLines:
    """Renders entries as JSON lines with `timestamp`, `level` and `event` first."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._timestamps = Timestamps()

    def __call__(self, entry: AccessEntry) -> bytes:
        """Return the entry's line with its line feed."""
        # `round` takes twice as long, and nobody needs more than microseconds.
        entry.gateway_ms = int(entry.gateway_ms * 1000 + 0.5) / 1000
        entry.upstream_ms = int(entry.upstream_ms * 1000 + 0.5) / 1000
        try:
            body = self._encode(entry)
        except UnicodeEncodeError:
            body = self._careful(entry)
        else:
            if len(entry.path) > MAX_TEXT or len(body) > _USUAL_LENGTH or not body.isascii():
                body = self._careful(entry)
        # The first member is `time`: the timestamp replaces it.
        return b'{"timestamp":"%b","level":"%b","event":"request"%b\n' % (
            self._timestamps.at(entry.time).encode(),
            entry.level.encode(),
            body[body.index(b",") :],
        )

    def _careful(self, entry: AccessEntry) -> bytes:
        return json_text(_bounded(entry)).encode()


class ConsoleLines:
    """Renders entries as lines for people, without empty members."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours
        self._timestamps = Timestamps()

    def __call__(self, entry: AccessEntry) -> bytes:
        """Return the entry's line with its line feed."""
        members = _bounded(entry)
        lead = " ".join(quoted(members.pop(name)) for name in ("method", "path", "status"))
        took = f"{members.pop('gateway_ms'):.1f}+{members.pop('upstream_ms'):.1f}ms"
        del members["time"]
        rest = {name: value for name, value in members.items() if value}
        at = self._timestamps.at(entry.time)
        return console_line(at, entry.level, f"{lead} {took}", rest, colours=self._colours).encode()


def console_line(timestamp: str, level: str, text: str, members: dict[str, object], *, colours: bool) -> str:
    """Return `TIMESTAMP LEVEL TEXT name=value ...` with a line feed; the caller quotes `text`."""
    pairs = "".join(f" {quoted(name)}={quoted(value)}" for name, value in members.items())
    if not colours:
        return f"{timestamp} {level:<8} {text}{pairs}\n"
    colour = COLOURS.get(level, "")
    return f"{DIM}{timestamp}{RESET} {colour}{level:<8}{RESET} {text}{DIM}{pairs}{RESET}\n"


def read_console_line(line: str) -> dict[str, object] | None:
    """Return the members of a line for people; None if it is no line of the log.

    The members of a request are text, except `status`; an event has only `event`. Colours, and anything that
    a collector wrote before the timestamp, are skipped.
    """
    line = _COLOUR.sub("", line).rstrip("\n")
    lead = _LEAD.search(line)
    if lead is None:
        return None
    request = _REQUEST.match(line, lead.end())
    if request is None:
        return {"event": line[lead.end() :]}
    method, path, status = request.groups()
    members = {name: _unquoted(value) for name, value in _MEMBER.findall(line, request.end())}
    of_all = {"event": "request", "method": _unquoted(method), "path": _unquoted(path)}
    return members | of_all | {"status": int(status)}


def _unquoted(text: str) -> object:
    """Return the value that `quoted` made this text of; any other text is returned unchanged."""
    try:
        return json.loads(text) if text.startswith('"') else text
    except ValueError:
        return text


def _bounded(entry: AccessEntry) -> dict[str, object]:
    members = msgspec.structs.asdict(entry)
    return {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in members.items()}
