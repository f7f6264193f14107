import numpy as np
import pytest

from optimizer.errors import OptimizerUsageError
from optimizer.schedule.hours import by_hour
from optimizer.workload.collect import Requests

MONDAY_S = 1_704_067_200.0  # 1 January 2024, 00:00 UTC


def requests(times_s: list[float]) -> Requests:
    n = len(times_s)
    return Requests(np.array(times_s), np.full(n, 100), np.full(n, 30))


def every(seconds: float, start_s: float, hours: float) -> list[float]:
    return list(np.arange(start_s, start_s + hours * 3600, seconds))


def test_a_week_has_its_own_hours_and_the_busiest_week_counts() -> None:
    times = every(60, MONDAY_S, 14 * 24)
    times += every(10, MONDAY_S + 8 * 86_400 + 9 * 3600, 1)  # second Tuesday, 9 o'clock
    found = by_hour(requests(sorted(times)), "t")
    assert found.weekly
    assert (found.uncovered, found.notes) == ((), ())
    rates = [0.0 if hour is None else hour.request_rate for hour in found.hours]
    assert rates[24 + 9] == pytest.approx(1 / 60 + 1 / 10)
    assert np.delete(rates, 33) == pytest.approx(1 / 60, rel=0.02)


def test_what_a_short_trace_does_not_cover_is_not_zero() -> None:
    times = every(10, MONDAY_S + 9.5 * 3600, 0.5) + every(5, MONDAY_S + 10 * 3600, 1)
    found = by_hour(requests([*times, MONDAY_S + 12 * 3600.0]), "t")
    assert len(found.hours) == 24
    assert len(found.uncovered) == 21
    rates = [None if hour is None else round(hour.request_rate, 3) for hour in found.hours]
    assert rates[9] == 0.1  # of the half hour that there is
    assert rates[10] == 0.2
    assert rates[11] is None  # the trace covers it: nothing came
    assert {rates[h] for h in found.uncovered} == {0.2}
    assert any("21 of 24 hours have no data" in note for note in found.notes)


def test_hours_are_those_of_the_time_zone() -> None:
    times = every(30, MONDAY_S + 23 * 3600, 1)
    tokyo = by_hour(requests(times), "t", "Asia/Tokyo")
    assert [h for h in range(24) if h not in tokyo.uncovered] == [8]
    with pytest.raises(OptimizerUsageError, match="no time zone"):
        by_hour(requests(times), "t", "Mars/Olympus")


def test_a_trace_without_dates_begins_on_monday() -> None:
    found = by_hour(requests(every(30, 12.0, 25)), "t")
    assert found.uncovered == ()
    assert any("Monday at 00:00" in note for note in found.notes)
    with pytest.raises(OptimizerUsageError, match="covers 9 s"):
        by_hour(requests([1.0, 10.0]), "t")
