"""The values of the walk: requests to the gateway, their responses, and steps that are as expected or not."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gateway.config import Secret


@dataclass(frozen=True, slots=True)
class Key:
    """A key to send, and the shell variable that a person would keep it in; without one the key is shown."""

    name: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class Variable:
    """A shell variable that later requests use; it is not shown if its value is empty."""

    name: str
    value: Secret


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request to the gateway; `shown` is its target with shell variables in it, if it has any."""

    method: str
    target: str
    key: Key | None = None
    body: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class DemoResponse:
    """The response to a request; status 0 if there was none, and then the text has the reason."""

    status: int
    text: str

    def literal(self, *path: str) -> str:
        """Return the member at this path exactly as it was written; empty if it is missing."""
        value = msgspec.Raw(self.text.encode())
        try:
            for name in path:
                value = msgspec.json.decode(value, type=dict[str, msgspec.Raw])[name]
        except (msgspec.DecodeError, KeyError):
            return ""
        return bytes(value).decode()

    def member(self, *path: str) -> str:
        """Return the text at this path; empty if there is none."""
        try:
            return msgspec.json.decode(self.literal(*path), type=str)
        except msgspec.DecodeError:
            return ""

    def excerpt(self, *names: str) -> str:
        """Return the named members as they were written; the whole text if one of them is missing."""
        parts = [f'"{name}":{self.literal(name)}' for name in names if self.literal(name)]
        return "{" + ",".join(parts) + "}" if len(parts) == len(names) else self.text


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One step of the walk: `excerpt` is the part of the response to look at.

    `variables` are those that it gives to the steps after it.
    """

    title: str
    request: DemoRequest
    response: DemoResponse
    excerpt: str
    as_expected: bool
    variables: tuple[Variable, ...] = ()
