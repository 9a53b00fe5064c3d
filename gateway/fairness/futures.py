"""Settles futures that somebody else may have settled or cancelled already."""

from __future__ import annotations

import asyncio
from typing import Any


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Make `future` raise `error`, unless it is done."""
    if not future.done():
        future.set_exception(error)
