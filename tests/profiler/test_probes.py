import asyncio
import threading

import pytest

from profiler.errors import ProfilerUsageError
from profiler.probes import Engine as Prober
from profiler.run_config import ProfileConfig
from profiler.slo import parse_slos
from profiler.targets import parse_targets

from .load.conftest import Engine, Request, plain


def prober(served: Engine) -> Prober:
    config = ProfileConfig(
        model="m",
        targets=parse_targets([f"own={served.url}"]),
        input_tokens=(16,),
        output_tokens=(4,),
        slos=parse_slos(["ttft_p50<=10s"]),
        duration_s=0.5,
        warmup_s=0.0,
    )
    return Prober(config.targets[0], config, threading.Event())


def refusing(message: str) -> Engine:
    async def refuse(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(400, {"error": {"message": message}}))

    return Engine(refuse)


def test_a_size_that_the_engine_refuses_is_a_miss() -> None:
    served = refusing("This model's maximum context length is 8 tokens")
    try:
        found = prober(served).probe(16, 4, 10.0, seed=0)
    finally:
        served.close()
    assert (found.outcome.verdict, found.outcome.reasons) == ("miss", ("context_length",))


def test_another_refusal_is_an_error() -> None:
    served = refusing("unknown field ignore_eos")
    try:
        with pytest.raises(ProfilerUsageError, match="unknown field ignore_eos"):
            prober(served).probe(16, 4, 10.0, seed=0)
    finally:
        served.close()
