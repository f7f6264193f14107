import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.run_config import ProfileConfig
from profiler.samples import summarise
from profiler.search import find_max_rate
from profiler.sim.run import simulate
from profiler.sim_probes import SimulatedReplica, schedule
from profiler.slo import parse_slos
from profiler.targets import parse_targets

CONFIG = ProfileConfig(
    model="deepseek-coder-6.7b",
    targets=parse_targets(["a10=sim:a10"]),
    input_tokens=(256,),
    output_tokens=(32,),
    slos=parse_slos(["ttft_p90<=2s", "tpot_p90<=80ms"]),
)


def replica(config: ProfileConfig = CONFIG) -> SimulatedReplica:
    return SimulatedReplica(config.targets[0], config)


@given(
    rate=st.floats(0.1, 1000),
    stages=st.lists(st.floats(0.5, 50), min_size=1, max_size=4),
    seed=st.integers(0, 9),
)
def test_each_stage_holds_exactly_the_asked_load(
    rate: float, stages: list[float], seed: int
) -> None:
    due = schedule(rate, tuple(stages), np.random.default_rng(seed))
    assert np.all(np.diff(due) >= 0)
    edges = np.concatenate([[0.0], np.cumsum(stages)])
    counts = [int(((due >= a) & (due < b)).sum()) for a, b in itertools.pairwise(edges)]
    # A time drawn within a rounding error of an edge may count for the next stage.
    assert np.abs(np.subtract(counts, [round(rate * s) for s in stages])).max() <= 1


def test_the_offered_rate_is_the_asked_one() -> None:
    found = replica().probe(256, 32, 3.0, seed=1).outcome
    assert found.request_rate == pytest.approx(3.0, rel=0.01)
    assert found.requests >= 50


def test_a_certified_rate_holds_over_a_much_longer_run() -> None:
    target = replica()
    seeds = iter(range(1000))
    found = find_max_rate(lambda rate: target.probe(256, 32, rate, next(seeds)).outcome)
    rate = found.max_request_rate
    assert rate is not None
    assert rate > 0
    due = schedule(rate, (3000 / rate,), np.random.default_rng(12345))
    ones = np.ones(len(due), dtype=np.int64)
    samples = simulate(target.replica, due, 256 * ones, 32 * ones)
    summary = summarise(samples, window=(300 / rate, 3000 / rate), slos=CONFIG.slos)
    assert summary.sustained
    ttft, tpot = summary.attained["ttft"], summary.attained["tpot"]
    assert ttft is not None
    assert tpot is not None
    # Near the knee a few percent of the rate move a latency by several times as much.
    assert ttft.p90 <= 2000 * 1.2
    assert tpot.p90 <= 80 * 1.2


def test_no_rate_beyond_the_capacity_passes_however_lax_the_slo() -> None:
    lax = replace(CONFIG, slos=parse_slos(["e2e_p50<=1h"]))
    target = replica(lax)
    seeds = iter(range(1000))
    found = find_max_rate(lambda rate: target.probe(256, 32, rate, next(seeds)).outcome)
    assert found.status == "measured"
    assert found.limited_by == "backlog"
    assert found.max_request_rate is not None
    flood = schedule(found.max_request_rate * 1.5, (60.0,), np.random.default_rng(0))
    ones = np.ones(len(flood), dtype=np.int64)
    samples = simulate(target.replica, flood, 256 * ones, 32 * ones)
    ended = ((samples.last_token_s >= 20) & (samples.last_token_s < 60)).sum() / 40
    assert 0.7 * ended < found.max_request_rate < ended


def test_lone_requests_do_not_meet_each_other() -> None:
    found = replica().probe(256, 32, None, seed=0).outcome
    assert found.verdict == "pass"
    e2e = found.latency["e2e"]
    assert e2e is not None
    assert e2e.p99 == pytest.approx(e2e.p50)


def test_a_size_that_never_fits_misses_at_every_rate() -> None:
    for rate in (None, 0.01, 10.0):
        found = replica().probe(10_000_000, 32, rate, seed=0).outcome
        assert (found.verdict, found.reasons) == ("miss", ("context_length",))
