from dataclasses import replace

import pytest

from profiler.samples import ClientHealth, LoadSummary, Stats
from profiler.slo import parse_slos
from profiler.verdict import ProbeOutcome, judge, needed_requests, wanted_requests

SLOS = parse_slos(["ttft_p99<=1s"])
FAST = Stats(100, 100, 100, 100, 100)
SLOW = Stats(100, 100, 100, 100, 1500)


def summary(**changes: object) -> LoadSummary:
    base = LoadSummary(
        offered=100,
        sent=100,
        completed=100,
        failed=0,
        by_cause={},
        latency={"ttft": FAST, "e2e": FAST},
        attained={"ttft": FAST, "e2e": FAST},
        request_rate=10.0,
        offered_request_rate=10.0,
        sent_request_rate=10.0,
        output_tokens_per_s=1000.0,
        total_tokens_per_s=2000.0,
        window_s=10.0,
        goodput=10.0,
        backlog_growth=0.0,
        sustained=True,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({}, "pass", None),
        ({"attained": {"ttft": SLOW}}, "miss", "ttft_p99"),
        ({"attained": {"ttft": None}}, "miss", "ttft_p99"),
        ({"sustained": False}, "miss", "backlog"),
        ({"failed": 5, "completed": 95, "by_cause": {"reset": 5}}, "miss", "failures (reset: 5)"),
        ({"sent_request_rate": 8.0}, "client_limited", "the client sent 8 of 10 requests/s"),
        ({"sent_request_rate": 9.9}, "pass", None),
        (
            {"client": ClientHealth(bottleneck="loop lag"), "attained": {"ttft": SLOW}},
            "client_limited",
            "loop lag",
        ),
        ({"offered_request_rate": 0.0}, "error", "no request was due within the measured window"),
        (
            {"completed": 0, "failed": 9, "by_cause": {"timeout_first_token": 9}},
            "miss",
            "failures (timeout_first_token: 9)",
        ),
        (
            {"completed": 0, "failed": 9, "by_cause": {"http_401": 9}},
            "error",
            "no request completed (http_401: 9)",
        ),
        (
            {"completed": 0, "failed": 9, "by_cause": {"context_length": 9}},
            "miss",
            "context_length",
        ),
    ],
)
def test_verdicts(changes: dict[str, object], verdict: str, reason: str | None) -> None:
    found = judge(summary(**changes), SLOS)
    assert found.verdict == verdict
    assert found.reasons == ((reason,) if reason else ())


def lagging(lag_ms: float, **changes: object) -> LoadSummary:
    lag = Stats(lag_ms, lag_ms, lag_ms, lag_ms, lag_ms)
    return summary(client=ClientHealth(send_lag_ms=lag, bottleneck="sent late"), **changes)


def test_a_late_client_spoils_a_pass_only_if_its_lag_could() -> None:
    assert judge(lagging(50), SLOS).verdict == "pass"
    assert judge(lagging(950), SLOS).verdict == "client_limited"


def test_late_reads_spoil_what_they_can_flatter() -> None:
    lag = Stats(40, 40, 40, 40, 40)
    tpot = Stats(20, 20, 20, 20, 20)
    late = summary(
        client=ClientHealth(loop_lag_ms=lag, bottleneck="read late"),
        attained={"tpot": tpot, "itl": tpot},
    )
    # 100 tokens an answer: a read late by 40 ms moves the TPOT by 0.4 ms, a gap by all of it.
    assert judge(late, parse_slos(["tpot_p99<=21ms"])).verdict == "pass"
    assert judge(late, parse_slos(["itl_p99<=50ms"])).verdict == "client_limited"
    assert judge(late, parse_slos(["itl_p99<=60ms"])).verdict == "pass"


def test_a_late_client_never_makes_a_miss() -> None:
    for changes in ({"attained": {"ttft": SLOW}}, {"sustained": False}, {"attained": {}}):
        found = judge(lagging(50, **changes), SLOS)
        assert (found.verdict, found.reasons) == ("client_limited", ("sent late",))


def test_a_lone_request_that_times_out_is_trouble_and_not_a_limit() -> None:
    silent = summary(completed=0, failed=3, by_cause={"timeout_first_token": 3})
    assert judge(silent, SLOS, alone=True).verdict == "error"


def test_a_lone_request_has_no_rate_to_sustain_or_deliver() -> None:
    alone = summary(sustained=False, sent_request_rate=0.1)
    assert judge(alone, SLOS, alone=True).verdict == "pass"


def test_outcomes_survive_the_journal() -> None:
    found = judge(summary(attained={"ttft": SLOW}, latency={"ttft": SLOW, "itl": None}), SLOS)
    assert ProbeOutcome.from_json(found.to_json()) == found


def test_rarer_percentiles_need_more_requests() -> None:
    assert wanted_requests(parse_slos(["ttft_p99<=1s", "tpot_mean<=1s"])) == 500
    assert needed_requests(parse_slos(["tpot_p90<=1s"])) < needed_requests(SLOS)
