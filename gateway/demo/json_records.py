"""The stand-in ledger's records: JSON objects whose values keep the literal that was sent."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec import Raw

from gateway.errors import Code

Record = dict[str, Raw]

_LONGEST_AMOUNT = 1000  # digits; sums of them stay far below what Python turns into text
_DIGITS = 27  # of an amount times its precision; Decimal is exact up to 28 digits
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class LedgerError(Exception):
    """The ledger refuses a request, with Core's status and code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def object_of(data: bytes | Raw) -> Record:
    """Return the members of an object. Raises LedgerError for anything but one JSON object."""
    try:
        return msgspec.json.decode(data, type=Record)
    except _UNREADABLE:
        raise LedgerError(400, Code.MALFORMED_BODY.code, "a JSON object is expected") from None


def items_of(data: Raw | None) -> list[Raw]:
    """Return the items of a list. Raises LedgerError for anything but a list of at least one item."""
    try:
        items = msgspec.json.decode(data or b"", type=list[Raw])
    except _UNREADABLE:
        raise LedgerError(400, Code.MALFORMED_BODY.code, "transactions must be a list") from None
    if not items:
        raise LedgerError(400, "TXN_BULK_EMPTY", "transactions cannot be empty")
    return items


def raw(value: object) -> Raw:
    """Return a value as the member of a record."""
    return Raw(msgspec.json.encode(value))


def holds(record: Record, texts: dict[str, str]) -> bool:
    """Return whether the record has these members with these texts."""
    try:
        return all(msgspec.json.decode(record.get(name, b"null")) == text for name, text in texts.items())
    except _UNREADABLE:
        return False


def text_of(members: Record, name: str) -> str:
    """Return a text. Raises LedgerError if the member is no text, empty or missing."""
    try:
        value = msgspec.json.decode(members.get(name, b'""'), type=str)
    except _UNREADABLE:
        value = ""
    if not value:
        raise _invalid(f"{name}: cannot be blank.")
    return value


def precise_amount_of(members: Record) -> int:
    """Return the amount in the currency's smallest unit; like Core, also from amount and precision.

    Raises LedgerError if it is no whole number, or longer than the ledger supports.
    """
    sent = literal_of(members, "precise_amount", "")
    try:
        if sent:
            return int(sent if len(sent) <= _LONGEST_AMOUNT else "too long")
        amount = Decimal(literal_of(members, "amount", "")) * Decimal(literal_of(members, "precision", "1"))
        if amount.adjusted() > _DIGITS or amount != amount.to_integral_value():
            raise _invalid("Invalid input")
        return int(amount)
    except (ValueError, ArithmeticError):
        raise _invalid("Invalid input") from None


def literal_of(members: Record, name: str, missing: str) -> str:
    """Return the text of a value as it was sent; `missing` if it is null or missing."""
    literal = bytes(members.get(name, b"null")).decode()
    return missing if literal == "null" else literal


def _invalid(message: str) -> LedgerError:
    return LedgerError(400, "TXN_VALIDATION_ERROR", message)
