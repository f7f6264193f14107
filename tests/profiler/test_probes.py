import asyncio
import threading
from dataclasses import replace

import pytest

from profiler.errors import ProfilerUsageError, ShardLostError
from profiler.load import LoadConfig, LoadRun, run_load
from profiler.load.config import LostShard
from profiler.load.shards import run_sharded
from profiler.probes import Engine as Prober
from profiler.probes import Measurement
from profiler.run_config import ProfileConfig
from profiler.slo import parse_slos
from profiler.targets import parse_targets

from .load.conftest import Engine, Request, good, plain


def prober_config(url: str) -> ProfileConfig:
    return ProfileConfig(
        model="m",
        targets=parse_targets([f"own={url}"]),
        input_tokens=(16,),
        output_tokens=(4,),
        slos=parse_slos(["ttft_p50<=10s"]),
        duration_s=0.5,
        warmup_s=0.0,
    )


def prober(served: Engine) -> Prober:
    config = prober_config(served.url)
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


def test_a_size_beyond_the_length_that_the_engine_names_is_a_miss() -> None:
    served = Engine(good, longest=19)
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


def test_long_requests_get_a_longer_warm_up_and_window() -> None:
    config = replace(prober_config("http://127.0.0.1:1"), duration_s=10.0, warmup_s=1.0)
    engine = Prober(config.targets[0], config, threading.Event())
    lone = engine._load(16, 4, None, 0)
    assert (lone.max_concurrency, lone.warmup_s, lone.duration_s) == (1, 0.0, 10.0)
    short = engine._load(16, 4, 50.0, 0)
    assert (short.warmup_s, short.duration_s) == (1.0, 10.0)
    engine._e2e_s[16, 4] = 6.0
    long = engine._load(16, 4, 50.0, 0)
    assert (long.warmup_s, long.duration_s) == (12.0, 30.0)
    assert engine._load(16, 8, 50.0, 0).warmup_s == 1.0


def test_rare_requests_get_the_time_that_a_percentile_needs() -> None:
    config = replace(prober_config("http://127.0.0.1:1"), duration_s=10.0)
    assert config.window_s(1.0) == 20.0
    assert config.window_s(0.001) == 100.0


class Losing:
    """Sends loads from here, and loses a shard of the first few."""

    def __init__(self, url: str, times: int, *, before_start: bool = False):
        self.url = url
        self.loads: list[LoadConfig] = []
        self._times = times
        self._before_start = before_start

    def check(self, load: LoadConfig, stop: threading.Event) -> bool:
        return True

    def send(self, load: LoadConfig, clients: int, *, stop: threading.Event) -> LoadRun:
        self.loads.append(load)
        if len(self.loads) > self._times:
            return run_sharded(load, clients, stop=stop)
        if self._before_start:
            raise ShardLostError("load.shard_lost", "shard 1 of 2 was lost before the load began")
        return replace(run_load(load), lost=(LostShard("1 of 2", "Evicted"),))


def probe_with(sender: Losing) -> Measurement:
    config = replace(prober_config(sender.url), shards=2)
    return Prober(config.targets[0], config, threading.Event(), sender).probe(16, 4, 20.0, seed=0)


@pytest.mark.parametrize("before_start", [False, True])
def test_a_probe_that_lost_a_shard_is_sent_whole_once_more(before_start: bool) -> None:
    served = Engine(good)
    try:
        sender = Losing(served.url, 1, before_start=before_start)
        found = probe_with(sender)
    finally:
        served.close()
    assert found.outcome.verdict in ("pass", "client_limited")
    first, second = sender.loads
    # Other prompts: the engine may remember those of the first.
    assert first.salt != second.salt
    assert replace(first, salt="") == replace(second, salt="")


def test_a_probe_that_loses_shards_twice_says_nothing_of_the_rate() -> None:
    served = Engine(good)
    try:
        found = probe_with(Losing(served.url, 2))
    finally:
        served.close()
    assert found.outcome.verdict == "error"
    assert "lost 2 times: shard 1 of 2 was lost: Evicted" in found.outcome.reasons[0]
    # The engine itself is there: other cells are tried.
    assert found.lost is None
