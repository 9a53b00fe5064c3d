"""The place of a request in its trace, as W3C Trace Context describes it. Pure.

Rules kept here:
- The sections are those of https://www.w3.org/TR/trace-context/.
- A trace is continued only if there is exactly one `traceparent` and it is valid (section 3.2). With an
  invalid one `tracestate` does not count either (section 3.3).
- The caller's decision to sample is kept. A new trace is sampled by the ratio, and by its id alone, as
  OpenTelemetry's samplers do, so that others who decide by the same ratio decide alike.
- A sampled request goes to Core as a child of its own span. A trace that is not sampled is passed on with
  the caller's span, since there is none of the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

_PARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
# Section 3.3.1.5: what is longer may be dropped.
_MOST_STATE: Final = 512
# Bit 0: sampled. Bit 1: the trace id is random (level 2), which is passed on unchanged.
_SAMPLED: Final = 1
_KNOWN_FLAGS: Final = 3
# Above all ids.
_EVERY_ID: Final = "g"


class TraceContext:
    """The trace of one request.

    Attributes:
        trace_id: 32 hexadecimal digits.
        parent_id: the span of the caller, 16 hexadecimal digits; "" for a new trace.
        span_id: the span that Core gets as its parent.
        flags: the flags that Core gets.
        state: the caller's `tracestate`; "" for none.
    """

    __slots__ = ("flags", "parent_id", "span_id", "state", "trace_id")

    def __init__(self, trace_id: str, parent_id: str, span_id: str, flags: int, state: str) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.span_id = span_id
        self.flags = flags
        self.state = state

    @property
    def sampled(self) -> bool:
        """True if its spans are recorded."""
        return self.flags & _SAMPLED != 0

    @property
    def lines(self) -> bytes:
        """The headers for Core, as `Name: value` lines that end in CRLF."""
        line = f"traceparent: 00-{self.trace_id}-{self.span_id}-0{self.flags}\r\n".encode()
        if self.state:
            line += b"tracestate: %b\r\n" % self.state.encode("utf-8", "surrogateescape")
        return line


class TraceSampler:
    """Begins traces and continues those of callers.

    Args:
        ratio: the part of the new traces that is sampled, from 0 to 1.
        random_bytes: a source that no client can foresee, such as `os.urandom`.
    """

    def __init__(self, ratio: float, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self.adopt(ratio)

    def adopt(self, ratio: float) -> None:
        """Sample new traces by this ratio from now on."""
        # Hexadecimal digits of one length compare as their numbers do.
        self._bound = f"{round(ratio * 2**64):016x}" if ratio < 1 else _EVERY_ID

    def begin_trace(self) -> TraceContext:
        """Return a new trace."""
        digits = self._random_bytes(24).hex()
        trace_id = digits[:32]
        flags = _SAMPLED if trace_id[16:] < self._bound else 0
        return TraceContext(trace_id, "", digits[32:], flags, "")

    def continue_trace(self, parents: Sequence[str], states: Sequence[str]) -> TraceContext:
        """Return the trace that a trusted caller names in its headers; a new one if it names none.

        Args:
            parents: the values of `traceparent`.
            states: the values of `tracestate`, in order.
        """
        found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
        # Version 00 has nothing behind the flags; a later one may have.
        if found is None or (found[1] == "00" and found[5] is not None):
            return self.begin_trace()
        flags = int(found[4], 16) & _KNOWN_FLAGS
        span_id = self._random_bytes(8).hex() if flags & _SAMPLED else found[3]
        state = ",".join(states)
        return TraceContext(found[2], found[3], span_id, flags, state if len(state) <= _MOST_STATE else "")
