"""Traces are begun by the ratio, and continued as W3C Trace Context says."""

from __future__ import annotations

import random

import pytest

from gateway.telemetry.trace_context import TraceContext, TraceSampler

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
OWN = "11" * 8
SAMPLED = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"


def members(trace: TraceContext) -> tuple[str, str, str, int, str]:
    return trace.trace_id, trace.parent_id, trace.span_id, trace.flags, trace.state


def sampler(ratio: float = 0.0) -> TraceSampler:
    return TraceSampler(ratio, lambda count: b"\x11" * count)


class TestContinued:
    @pytest.mark.parametrize(
        ("given", "flags"),
        [
            (SAMPLED, 1),
            # The flag of a random id is kept, and unknown flags are not.
            (f"00-{TRACE}-{CALLER}-03", 3),
            (f"00-{TRACE}-{CALLER}-fd", 1),
            # A later version may have more behind the flags.
            (f"cc-{TRACE}-{CALLER}-01", 1),
            (f"cc-{TRACE}-{CALLER}-01-what-comes-later", 1),
        ],
    )
    def test_a_sampled_one_goes_on_as_a_child_of_our_span(self, given: str, flags: int) -> None:
        trace = sampler().continue_trace([given], ["a=1"])
        assert (members(trace), trace.sampled) == ((TRACE, CALLER, OWN, flags, "a=1"), True)
        line = f"traceparent: 00-{TRACE}-{OWN}-0{flags}\r\ntracestate: a=1\r\n"
        assert trace.lines == line.encode()

    def test_one_that_is_not_sampled_goes_on_with_the_callers_span(self) -> None:
        """There is no span of ours that Core could be a child of, whatever the ratio."""
        trace = sampler(1.0).continue_trace([UNSAMPLED], [])
        assert (members(trace), trace.sampled) == ((TRACE, CALLER, CALLER, 0, ""), False)
        assert trace.lines == f"traceparent: {UNSAMPLED}\r\n".encode()

    def test_states_are_joined_in_their_order(self) -> None:
        assert sampler().continue_trace([SAMPLED], ["a=1,b=2", "c=3"]).state == "a=1,b=2,c=3"

    def test_a_state_that_is_longer_than_512_characters_is_dropped(self) -> None:
        states = ["a=" + "x" * length for length in (510, 511)]
        assert [sampler().continue_trace([SAMPLED], [state]).state for state in states] == [states[0], ""]

    @pytest.mark.parametrize(
        "given",
        [
            [],
            [SAMPLED, SAMPLED],
            [""],
            ["forged"],
            [SAMPLED.upper()],
            [f"ff-{TRACE}-{CALLER}-01"],
            [f"0-{TRACE}-{CALLER}-01"],
            [f"00-{'0' * 32}-{CALLER}-01"],
            [f"00-{TRACE}-{'0' * 16}-01"],
            [f"00-{TRACE}-{CALLER}-1"],
            [f"00-{TRACE}-{CALLER}"],
            [f"00-{TRACE[1:]}-{CALLER}-01"],
            [f"{SAMPLED}-more"],
            [f"{SAMPLED}-"],
            [f"cc-{TRACE}-{CALLER}-01more"],
            [f" {SAMPLED}"],
            [f"{SAMPLED}\n"],
            [SAMPLED.replace("0a", "\N{ARABIC-INDIC DIGIT ZERO}a")],
        ],
    )
    def test_an_invalid_one_begins_anew_without_its_state(self, given: list[str]) -> None:
        assert members(sampler().continue_trace(given, ["a=1"])) == ("11" * 16, "", OWN, 0, "")


class TestBegun:
    @pytest.mark.parametrize(("ratio", "sampled"), [(0.0, False), (1.0, True)])
    def test_none_and_all_are_exact(self, ratio: float, sampled: bool) -> None:
        for byte in (b"\x00", b"\xff"):
            trace = TraceSampler(ratio, lambda count, byte=byte: byte * count).begin_trace()  # type: ignore[misc]
            assert trace.sampled is sampled

    def test_the_ratio_is_kept(self) -> None:
        source = random.Random(1)  # noqa: S311  # it has to repeat
        begun = TraceSampler(0.1, source.randbytes)
        assert 900 < sum(begun.begin_trace().sampled for _ in range(10_000)) < 1100

    def test_another_ratio_counts_at_once(self) -> None:
        begun = sampler(0.0)
        begun.adopt(1.0)
        assert begun.begin_trace().sampled

    def test_the_trace_and_the_span_have_ids_of_their_own(self) -> None:
        source = random.Random(1)  # noqa: S311  # it has to repeat
        begun = [TraceSampler(0.0, source.randbytes).begin_trace() for _ in range(1000)]
        assert len({trace.trace_id for trace in begun} | {trace.span_id for trace in begun}) == 2000
        assert begun[0].lines == f"traceparent: 00-{begun[0].trace_id}-{begun[0].span_id}-00\r\n".encode()
