"""The clock of a request starts when it is sent, not when its answer begins."""

import asyncio
from collections.abc import Callable

from profiler.load import LoadConfig, run_load

from .conftest import Engine, Request, after_probe, good

LATE_S = 0.1


async def late_head(request: Request, writer: asyncio.StreamWriter) -> None:
    """Hold back even the response's head, as engines do until the first token is there."""
    await asyncio.sleep(LATE_S)
    await good(request, writer)


def test_the_wait_for_the_response_s_head_is_part_of_ttft(engine: Callable[..., Engine]) -> None:
    served = engine(after_probe(late_head))
    config = LoadConfig(
        base_url=served.url,
        model="m",
        input_tokens=32,
        output_tokens=4,
        max_concurrency=2,
        num_prompts=4,
        warmup_s=0.0,
    )
    ttft = run_load(config).summary.latency["ttft"]
    assert ttft is not None
    assert ttft.p50 >= LATE_S * 1e3
