import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ProfilerUsageError
from profiler.samples import Stats
from profiler.search import Guess, find_max_rate
from profiler.verdict import ProbeOutcome, Verdict, failed_probe

rates = st.floats(1e-2, 1e4)


def outcome(verdict: Verdict, rate: float | None, e2e_s: float = 1.0) -> ProbeOutcome:
    ms = e2e_s * 1e3
    return ProbeOutcome(
        verdict,
        request_rate=rate or 1 / e2e_s,
        requests=100,
        reasons=() if verdict == "pass" else ("ttft_p99",),
        latency={"e2e": Stats(ms, ms, ms, ms, ms)},
    )


class Engine:
    """Passes below its capacity; wrong with a given probability near it."""

    def __init__(self, capacity: float, *, serial: float | None = None, noise: float = 0.0):
        self.capacity = capacity
        self.serial = serial or capacity / 10
        self.noise = noise
        self.random = random.Random(1)
        self.asked: list[float | None] = []

    def __call__(self, rate: float | None) -> ProbeOutcome:
        self.asked.append(rate)
        at = self.serial if rate is None else rate
        blur = math.exp(self.random.uniform(-self.noise, self.noise))
        verdict: Verdict = "pass" if at <= self.capacity * blur else "miss"
        return outcome(verdict, rate, 1 / self.serial)


@given(capacity=rates, share=st.floats(0.005, 0.9), tolerance=st.sampled_from([0.01, 0.05, 0.2]))
def test_the_answer_lies_within_tolerance_below_the_truth(
    capacity: float, share: float, tolerance: float
) -> None:
    found = find_max_rate(Engine(capacity, serial=capacity * share), tolerance=tolerance)
    assert found.status == "measured"
    assert found.max_request_rate is not None
    assert capacity / (1 + tolerance) * 0.999 <= found.max_request_rate <= capacity
    assert found.failing_request_rate is not None
    assert found.failing_request_rate > capacity
    assert found.notes == ()


@given(capacity=rates, error=st.floats(0.8, 1.25))
def test_a_good_guess_needs_few_probes(capacity: float, error: float) -> None:
    engine = Engine(capacity)
    found = find_max_rate(engine, start=Guess(capacity * error, 1.3))
    assert found.status == "measured"
    assert found.probes <= 7
    assert None not in engine.asked


@given(capacity=rates, error=st.floats(1e-3, 1e3))
def test_a_bad_guess_costs_probes_and_not_the_answer(capacity: float, error: float) -> None:
    found = find_max_rate(Engine(capacity), start=Guess(capacity * error, 1.3))
    assert found.max_request_rate is not None
    assert capacity / 1.05 * 0.999 <= found.max_request_rate <= capacity
    assert found.probes <= 20


@given(capacity=rates, guess=st.none() | st.floats(0.1, 10))
def test_an_engine_that_misses_alone_is_infeasible_and_asked_twice(
    capacity: float, guess: float | None
) -> None:
    engine = Engine(capacity, serial=capacity * 3)
    start = None if guess is None else Guess(capacity * 100 * guess)
    found = find_max_rate(engine, start=start)
    assert (found.status, found.max_request_rate) == ("infeasible", 0.0)
    assert engine.asked.count(None) == 2
    assert found.limited_by == "ttft_p99"
    assert found.at is not None
    assert found.at.latency["e2e"] is not None


def test_what_only_lone_requests_meet_is_infeasible_with_a_note() -> None:
    found = find_max_rate(lambda rate: outcome("pass" if rate is None else "miss", rate))
    assert (found.status, found.max_request_rate) == ("infeasible", 0.0)
    assert "lone requests" in found.notes[0]


@given(capacity=rates, seed=st.integers(0, 1000))
def test_noise_moves_the_answer_no_further_than_the_noise_and_tolerance(
    capacity: float, seed: int
) -> None:
    engine = Engine(capacity, noise=0.1)
    engine.random.seed(seed)
    found = find_max_rate(engine)
    assert found.max_request_rate is not None
    # Beyond the blurred band every answer is right, so no contradiction reaches further.
    assert capacity * math.exp(-0.1) / 1.051 <= found.max_request_rate <= capacity * math.exp(0.1)


def test_one_spurious_miss_is_probed_again_and_noted() -> None:
    engine = Engine(100.0, serial=1.0)
    missed: list[float | None] = []

    def probe(rate: float | None) -> ProbeOutcome:
        if rate == 16.0 and not missed:
            missed.append(rate)
            return outcome("miss", rate)
        return engine(rate)

    found = find_max_rate(probe)
    assert found.max_request_rate is not None
    assert 95 < found.max_request_rate <= 100
    assert "16 requests/s passed 2 of 3 probes" in found.notes


def test_a_pass_that_does_not_repeat_is_not_certified() -> None:
    engine = Engine(10.0, serial=1.0)
    seen: dict[float | None, int] = {}

    def probe(rate: float | None) -> ProbeOutcome:
        seen[rate] = seen.get(rate, 0) + 1
        lucky = rate is not None and 10 < rate < 14 and seen[rate] == 1
        return outcome("pass", rate) if lucky else engine(rate)

    found = find_max_rate(probe)
    assert found.max_request_rate is not None
    assert found.max_request_rate <= 10
    assert any("passed 1 of" in note for note in found.notes)


def test_the_client_never_caps_a_cell_as_if_the_engine_did() -> None:
    engine = Engine(100.0, serial=1.0)

    def probe(rate: float | None) -> ProbeOutcome:
        return engine(rate) if rate is None or rate < 30 else outcome("client_limited", rate)

    found = find_max_rate(probe)
    assert found.status == "client_limited"
    assert found.max_request_rate is not None
    assert 30 / 1.05 < found.max_request_rate < 30
    assert found.failing_request_rate is None
    assert "lower bound" in found.notes[0]


def test_a_client_that_holds_back_a_lone_request_measures_nothing() -> None:
    found = find_max_rate(lambda rate: outcome("client_limited", rate))
    assert (found.status, found.max_request_rate) == ("not_measured", None)


def test_a_lost_connection_measures_nothing_and_is_tried_twice() -> None:
    asked: list[float | None] = []

    def probe(rate: float | None) -> ProbeOutcome:
        asked.append(rate)
        return failed_probe("connect: 7")

    found = find_max_rate(probe)
    assert (found.status, found.max_request_rate) == ("not_measured", None)
    assert "connect: 7" in found.notes[0]
    assert asked == [None, None]


def test_trouble_in_mid_search_is_not_taken_for_the_engines_limit() -> None:
    engine = Engine(100.0, serial=1.0)
    found = find_max_rate(
        lambda rate: failed_probe("reset: 3") if rate and rate > 10 else engine(rate)
    )
    assert (found.status, found.max_request_rate) == ("not_measured", None)
    assert "4 requests/s passed before that" in found.notes


def test_running_out_of_probes_keeps_the_bracket_and_says_so() -> None:
    found = find_max_rate(Engine(100.0, serial=1.0), max_probes=8)
    assert found.status == "measured"
    assert found.max_request_rate is not None
    assert found.max_request_rate <= 100
    assert any("stopped after 8 probes" in note for note in found.notes)


def test_an_offered_rate_below_the_asked_one_is_what_is_certified() -> None:
    def probe(rate: float | None) -> ProbeOutcome:
        asked = rate or 1.0
        return outcome("pass" if asked <= 50 else "miss", asked * 0.9)

    found = find_max_rate(probe)
    assert found.max_request_rate is not None
    assert found.max_request_rate <= 45


@pytest.mark.parametrize("tolerance", [0, 0.001, 1.5, math.nan])
def test_absurd_tolerances_are_refused(tolerance: float) -> None:
    with pytest.raises(ProfilerUsageError, match="tolerance"):
        find_max_rate(Engine(1.0), tolerance=tolerance)
