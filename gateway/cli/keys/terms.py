"""The options for the terms of a key, one definition for every command that sets them.

Rules kept here:
- A command gets the terms that its options name as one `TermChanges`, whatever their number.
- `none` removes a term where a command changes a key, and is refused where it creates one.
- A value that is refused is not repeated: a key may have been pasted in its place.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from gateway.cli.arguments import refuse_option
from gateway.policy.term_changes import TermChanges
from gateway.policy.terms import (
    MOST,
    NO_TERMS,
    KeyTerms,
    Network,
    checked_count,
    read_certificate,
    read_networks,
    read_rate,
)

F = TypeVar("F", bound=Callable[..., Any])

_NONE: Final = "none"
_COUNT: Final = re.compile(r"[1-9][0-9]{0,6}", re.ASCII)


def _read_count(text: str) -> int:
    if _COUNT.fullmatch(text) is None:
        raise ValueError(f"write a whole number from 1 to {MOST}")
    return checked_count(int(text))


def _read_networks(text: str) -> tuple[Network, ...]:
    return read_networks(text.split(","))


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "rate": read_rate,
    "burst": _read_count,
    "concurrency": _read_count,
    "allow_from": _read_networks,
    "certificate": read_certificate,
}
_HELP: Final = {
    "rate": "The most requests in a second, minute or hour: 100/s, 600/m, 10000/h.",
    "burst": "The most requests at once within --rate; by default one second's worth.",
    "concurrency": "The most requests that are in progress at once.",
    "allow_from": "The networks that the client's address must be in, as CIDR, separated by commas.",
    "certificate": "The SHA-256 fingerprint of the client certificate that the key is bound to.",
}


class TermValue(click.ParamType[Any]):
    """The value of one term: (its name, the value), where the value is empty to remove the term."""

    def __init__(self, term: str, *, removable: bool) -> None:
        self.name = term
        self._removable = removable

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name and the value."""
        if value == _NONE:
            if not self._removable:
                self.fail("leave the option out", param, ctx)
            return self.name, getattr(NO_TERMS, self.name)
        try:
            return self.name, _READERS[self.name](str(value))
        except ValueError as error:
            self.fail(str(error) + (f", or {_NONE} to remove it" if self._removable else ""), param, ctx)


def term_options(*, removable: bool) -> Callable[[F], F]:
    """Return a decorator that adds the options of all terms; the command gets them as `terms`.

    With `removable`, the value `none` removes a term.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_terms(*args: Any, **values: Any) -> Any:
            given = [values.pop(term) for term in _READERS]
            changed = dict(value for value in given if value is not None)
            terms = TermChanges(KeyTerms(**changed), frozenset(changed))
            return command(*args, terms=terms, **values)

        decorated: Any = with_terms
        for term in reversed(_READERS):
            option = f"--{term.replace('_', '-')}"
            kind = TermValue(term, removable=removable)
            decorated = click.option(option, term, type=kind, help=_HELP[term])(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def terms_of_new_key(changes: TermChanges) -> KeyTerms:
    """Return the terms of a new key; end the command with 2 for a burst without a rate."""
    try:
        return changes.applied_to(NO_TERMS)
    except ValueError as error:
        refuse_option("--burst", str(error))
