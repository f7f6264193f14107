from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.samples import Samples, Stats, summarise, weighted_stats
from profiler.slo import parse_slos


def make(
    due: list[float],
    ttft: float | list[float] = 0.1,
    gap: float = 0.05,
    tokens: int = 3,
    errors: list[str | None] | None = None,
) -> Samples:
    """Return requests sent when due, with a token every ``gap`` seconds after the first."""
    scheduled = np.array(due)
    causes = errors or [None] * len(due)
    ok = np.array([cause is None for cause in causes])
    first = np.where(ok, scheduled + np.array(ttft), np.nan)
    last = first + gap * (tokens - 1)
    ends = [f + gap * (k + 1) for f in first[ok] for k in range(tokens - 1)]
    return Samples(
        scheduled_s=scheduled,
        sent_s=scheduled,
        first_token_s=first,
        last_token_s=last,
        input_tokens=np.full(len(due), 10),
        output_tokens=np.where(ok, tokens, 0),
        errors=causes,
        gap_s=np.full(len(ends), gap),
        gap_end_s=np.array(ends),
        gap_weight=np.ones(len(ends)),
    )


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.integers(1, 5)),
        min_size=1,
        max_size=40,
    )
)
def test_weights_are_repetitions(pairs) -> None:
    values, weights = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    repeated = np.repeat(values, weights.astype(int))
    weighted, plain = weighted_stats(values, weights), weighted_stats(repeated)
    assert weighted is not None and plain is not None
    assert list(vars(weighted).values()) == pytest.approx(list(vars(plain).values()))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(values) -> None:
    stats = weighted_stats(np.array(values))
    assert stats is not None
    for name, share in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        found = getattr(stats, name) / 1e3
        at_most = sum(v <= found + 1e-9 for v in values)
        below = sum(v < found - 1e-9 for v in values)
        assert at_most * 100 >= share * len(values)
        assert below * 100 < share * len(values)


def test_what_is_not_there_is_left_out() -> None:
    assert weighted_stats(np.array([])) is None
    assert weighted_stats(np.array([np.nan])) is None
    assert weighted_stats(np.array([1.0]), np.array([0.0])) is None
    assert weighted_stats(np.array([np.nan, 0.002])) == Stats(*[2.0] * 5)


def test_figures_of_a_plain_run() -> None:
    summary = summarise(make([k / 10 for k in range(100)]), window=(0.0, 10.0))
    assert summary.latency["ttft"] == Stats(*[pytest.approx(100)] * 5)
    assert summary.latency["itl"] == Stats(*[pytest.approx(50)] * 5)
    assert summary.latency["tpot"] == Stats(*[pytest.approx(50)] * 5)
    assert summary.latency["e2e"] == Stats(*[pytest.approx(200)] * 5)
    assert (summary.offered, summary.completed, summary.failed) == (100, 100, 0)
    assert summary.offered_request_rate == 10
    assert summary.sustained


def test_warm_up_and_drain_are_left_out() -> None:
    run = make([0.0, 1.0, 2.0], ttft=[5.0, 0.1, 7.0])
    summary = summarise(run, window=(1.0, 2.0))
    assert summary.latency["ttft"] is not None
    assert summary.latency["ttft"].p99 == pytest.approx(100)
    assert summary.offered_request_rate == 1
    assert summary.request_rate == 1
    # One first token and two more within the second.
    assert summary.output_tokens_per_s == 3
    assert summary.total_tokens_per_s == 13


def test_a_failure_is_infinitely_late_and_no_success() -> None:
    run = make([k / 10 for k in range(10)], errors=[None] * 9 + ["http_500"])
    summary = summarise(run, window=(0.0, 1.0), slos=parse_slos(["ttft_p99<=1s"]))
    assert summary.by_cause == {"http_500": 1}
    assert (summary.completed, summary.failed) == (9, 1)
    for metric in ("ttft", "tpot", "e2e", "itl"):
        attained, printed = summary.attained[metric], summary.latency[metric]
        assert attained is not None and printed is not None
        assert attained.p50 == pytest.approx(printed.p50)
        assert attained.p95 == float("inf")
        assert attained.to_json()["p99"] is None
        assert np.isfinite(printed.p99)
    missed = parse_slos(["ttft_p99<=1h", "itl_p99<=1h", "ttft_p50<=1s"])
    assert [slo.name for slo in summary.violated(missed)] == ["itl_p99", "ttft_p99"]
    assert summary.goodput == pytest.approx(9)


def test_nothing_completed_meets_nothing() -> None:
    run = make([0.0, 0.5], errors=["reset", "reset"])
    summary = summarise(run, window=(0.0, 1.0), slos=parse_slos(["ttft_p99<=1s"]))
    assert summary.latency["ttft"] is None
    assert not summary.certified
    assert summary.goodput == 0
    slos = parse_slos(["ttft_p99<=1h", "tpot_p50<=1h"])
    assert summary.violated(slos) == list(slos)


def test_single_tokens_have_no_tpot_and_can_t_miss_it() -> None:
    slos = parse_slos(["tpot_p99<=1ms", "itl_p99<=1ms"])
    summary = summarise(make([0.0, 0.5], tokens=1), window=(0.0, 1.0), slos=slos)
    assert summary.latency["tpot"] is None
    assert summary.violated(slos) == []
    assert summary.goodput == 2


def test_from_schedule_counts_the_wait_in_the_client() -> None:
    run = make([0.0, 1.0])
    run = replace(
        run,
        sent_s=run.sent_s + 2,
        first_token_s=run.first_token_s + 2,
        last_token_s=run.last_token_s + 2,
    )
    latency = summarise(run, window=(0.0, 2.0)).latency
    assert latency["ttft"] is not None and latency["ttft_from_schedule"] is not None
    assert latency["ttft"].p50 == pytest.approx(100)
    assert latency["ttft_from_schedule"].p50 == pytest.approx(2100)


@given(st.floats(1, 200), st.integers(1, 5))
def test_answers_longer_than_the_run_are_no_backlog(rate, seed) -> None:
    due = np.sort(np.random.default_rng(seed).uniform(0, 30, round(rate * 30)))
    summary = summarise(make(list(due), ttft=0.1, gap=20.0, tokens=3), window=(5.0, 30.0))
    assert summary.sustained


@given(st.floats(20, 200), st.floats(1.5, 4))
def test_a_queue_that_grows_is_a_backlog(rate, overload) -> None:
    due = np.arange(0, 30, 1 / rate)
    # One at a time, each served in 1 / (rate / overload) seconds.
    wait = (np.arange(len(due)) + 1) * overload / rate - due
    summary = summarise(make(list(due), ttft=list(wait), gap=0.0), window=(5.0, 30.0))
    assert not summary.sustained
    assert summary.backlog_growth == pytest.approx(1 - 1 / overload, abs=0.2)


@given(st.floats(1, 200), st.floats(1.2, 4))
def test_a_slow_engine_that_falls_behind_is_seen_by_its_waits(rate, overload) -> None:
    due = np.arange(0, 30, 1 / rate)
    wait = (np.arange(len(due)) + 1) * overload / rate - due
    summary = summarise(make(list(due), ttft=list(wait), gap=0.0), window=(5.0, 30.0))
    assert not summary.sustained


@given(st.floats(5, 200), st.integers(1, 50))
def test_a_queue_that_drains_is_no_backlog(rate, seed) -> None:
    """One at a time, busy half of the time, under Poisson arrivals."""
    due = np.sort(np.random.default_rng(seed).uniform(0, 30, round(rate * 30)))
    free, ends = 0.0, []
    for at in due:
        free = max(free, at) + 0.5 / rate
        ends.append(free - at)
    summary = summarise(make(list(due), ttft=ends, gap=0.0), window=(5.0, 30.0))
    assert summary.sustained


def test_a_hiccup_is_no_growing_wait() -> None:
    waits = [0.1] * 100
    waits[90:95] = [6.0] * 5
    summary = summarise(make(list(np.arange(100) * 0.3), ttft=waits), window=(0.0, 30.0))
    assert summary.sustained
