import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import UsageError
from profiler.slo import METRICS, STATISTICS, Slo, differences, parse_slo, parse_slos

SLOS = st.builds(
    Slo, st.sampled_from(METRICS), st.sampled_from(STATISTICS), st.integers(1, 10**6).map(float)
)


@given(SLOS)
def test_an_objective_survives_its_json_form(slo) -> None:
    assert Slo.from_json(slo.to_json()) == slo


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("ttft_p99<=2s", Slo("ttft", "p99", 2.0)),
        (" tpot_mean < 50ms ", Slo("tpot", "mean", 0.05)),
        ("ttft_from_schedule_p95≤1.5s", Slo("ttft_from_schedule", "p95", 1.5)),
    ],
)
def test_what_people_write(text: str, slo: Slo) -> None:
    assert parse_slo(text) == slo


@pytest.mark.parametrize(
    "text",
    ["", "ttft<=2s", "ttft_p98<=2s", "speed_p99<=2s", "ttft_p99>=2s", "ttft_p99<=2",
     "ttft_p99<=0s", "ttft_p99<=-1s", "ttft_p99<=fast"],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_slo(text)


def test_the_tighter_of_two_holds_and_the_order_is_fixed() -> None:
    slos = parse_slos(["ttft_p99<=2s", "itl_p99<=50ms", "ttft_p99<=1s"])
    assert slos == (Slo("itl", "p99", 0.05), Slo("ttft", "p99", 1.0))


@given(st.lists(SLOS, max_size=4), st.lists(SLOS, max_size=4))
def test_only_equal_sets_have_no_differences(ours, theirs) -> None:
    left, right = ({slo.name: slo for slo in slos} for slos in (ours, theirs))
    found = differences(list(left.values()), list(right.values()))
    assert (found == []) == (left == right)
