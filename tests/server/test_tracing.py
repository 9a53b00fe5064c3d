"""Lost spans are logged."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import time

from gateway.server.tracing import Tracing
from gateway.telemetry import AccessEntry, Log
from gateway.telemetry.otlp import OtlpSpans, Service
from gateway.telemetry.trace_context import TraceSampler
from tests.redis_server import free_port
from tests.running import eventually


async def test_lost_spans_are_logged_once_with_their_number() -> None:
    stream = io.StringIO()
    spans = OtlpSpans(f"http://127.0.0.1:{free_port()}/v1/traces", Service("1", "i", "http://127.0.0.1:1"))
    tracing = Tracing(TraceSampler(1.0, os.urandom), spans)
    for _ in range(3):
        spans.record(tracing.sampler.begin_trace(), AccessEntry(time=time.time()), "http", 0.0)
    await spans.close(0.0)
    reporting = asyncio.create_task(tracing.report_losses(Log(stream), every=0.01))
    await eventually(lambda: bool(stream.getvalue()), "an event")
    await asyncio.sleep(0.05)
    reporting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reporting
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    lost = [event["lost"] for event in events if event["event"].startswith("spans were lost")]
    assert sum(lost) == 3
