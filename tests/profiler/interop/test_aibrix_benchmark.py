import json
from typing import Any

import pytest

from profiler.errors import ProfilerUsageError
from profiler.interop.aibrix_benchmark import from_benchmark, is_benchmark
from profiler.interop.checks import Imported
from profiler.slo import parse_slos

E2E = parse_slos(["e2e_p99<=2s"])


def rows(
    rate: float, e2e_s: float, *, size: int = 128, tput: float | None = None, seed: int = 1
) -> str:
    """Return the rows of one benchmark run, as AIBrix's script prints them."""
    base = {
        "input_tokens": size,
        "output_tokens": 32,
        "request_rate": rate,
        "seed": seed,
        "model": "m",
        "temperature": 0.0,
        "samples": 100,
    }

    def latency(metric: str, mean: float) -> dict[str, Any]:
        spread = {"mean": mean, "P50": mean, "P90": mean * 1.2, "P99": mean * 1.5}
        return {**base, "metric": metric, **spread}

    done = rate * 0.98 if tput is None else tput
    lines: list[dict[str, Any]] = [
        {**base, "metric": "TPUT", "mean": done},
        {**base, "metric": "TT", "mean": done * 32},
        latency("E2E", e2e_s),
        latency("TTFT", e2e_s / 10),
        latency("TPOT", e2e_s / 40),
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def read(text: str, slos: Any = E2E, **options: Any) -> Imported:
    return from_benchmark(text, "bench.jsonl", slos, target="a10", **options)


def test_the_highest_rate_within_the_slo_is_taken() -> None:
    imported = read(rows(1, 0.5) + rows(2, 0.9) + rows(4, 1.9) + rows(8, 4.0))
    (cell,) = imported.table.cells
    assert cell.status == "measured"
    assert cell.max_request_rate == pytest.approx(1.96)
    assert (cell.failing_request_rate, cell.limited_by) == (4.0, "e2e_p99")
    assert imported.table.provenance.source == "imported"
    e2e = cell.latency["e2e"]
    assert e2e is not None
    assert e2e.p99 == pytest.approx(1350)
    assert e2e.to_json()["p95"] is None
    assert any("successes" in line for line in imported.warnings)


def test_order_of_lines_and_blank_lines_do_not_matter() -> None:
    lines = (rows(1, 0.5) + rows(2, 0.9)).splitlines()
    shuffled = "\n\n".join(reversed(lines))
    assert read(shuffled).table.cells == read("\n".join(lines)).table.cells


def test_a_rate_at_which_requests_pile_up_does_not_count() -> None:
    (cell,) = read(rows(1, 0.5) + rows(2, 0.9, tput=1.5)).table.cells
    assert cell.max_request_rate == pytest.approx(0.98)
    assert cell.limited_by == "backlog"


def test_a_pass_above_a_miss_is_not_taken() -> None:
    (cell,) = read(rows(1, 0.5) + rows(2, 3.0) + rows(4, 0.5)).table.cells
    assert cell.max_request_rate == pytest.approx(0.98)


def test_the_lowest_rate_is_never_returned_as_if_it_met_the_slo() -> None:
    (busy,) = read(rows(4, 3.0) + rows(8, 6.0)).table.cells
    assert (busy.status, busy.max_request_rate) == ("not_measured", None)
    assert "lower ones were not tried" in busy.notes[0]
    (alone,) = read(rows(0.1, 3.0)).table.cells
    assert (alone.status, alone.max_request_rate) == ("infeasible", 0.0)


def test_answers_too_fast_to_be_answers_are_left_out() -> None:
    (cell,) = read(rows(1, 0.5) + rows(64, 11e-6)).table.cells
    assert cell.max_request_rate == pytest.approx(0.98)
    assert any("64 requests/s left out" in note for note in cell.notes)


def test_a_run_without_a_rate_is_left_out() -> None:
    (cell,) = read(rows(1, 0.5) + rows(float("inf"), 0.5, tput=7.0)).table.cells
    assert (cell.max_request_rate, cell.failing_request_rate) == (pytest.approx(0.98), None)
    assert any("all requests at once" in note for note in cell.notes)


def test_rows_of_an_earlier_run_are_refused_until_one_is_chosen() -> None:
    text = rows(1, 0.5, seed=1) + rows(1, 0.8, seed=2)
    with pytest.raises(ProfilerUsageError, match="seed 1 and 2") as caught:
        read(text)
    assert caught.value.code == "import.stale"
    (cell,) = read(text, seed=2).table.cells
    e2e = cell.latency["e2e"]
    assert e2e is not None
    assert e2e.mean == pytest.approx(800)


def test_buckets_without_rows_are_not_measured() -> None:
    text = rows(1, 0.5) + rows(1, 0.5, size=512).replace(
        '"output_tokens": 32', '"output_tokens": 8'
    )
    table = read(text).table
    statuses = {(c.input_tokens, c.output_tokens): c.status for c in table.cells}
    assert statuses == {
        (128, 8): "not_measured",
        (128, 32): "measured",
        (512, 8): "measured",
        (512, 32): "not_measured",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no row"),
        ('{"metric": "TPUT"', "line 1 of bench.jsonl is not JSON"),
        (rows(1, 0.5) + "[]\n", "line 6 of bench.jsonl is not an object"),
        (rows(1, 0.5).replace('"TPUT"', '"RPS"'), "'RPS'"),
        (rows(1, 0.5).replace('"input_tokens": 128', '"input_tokens": -1'), "input_tokens -1"),
        (rows(1, 0.5).replace('"request_rate": 1', '"request_rate": null'), "request_rate None"),
        (rows(0, 0.5), "request_rate 0"),
        (rows(1, -0.5), "mean -0.5"),
        (rows(1, float("nan")), "mean nan"),
        (rows(1, float("inf")), "mean inf"),
        (rows(1, 0.5).replace('"P99": 0.75', '"P99": NaN'), "P99 nan"),
        (rows(1, 0.5).replace('"P99": 0.75', '"P99": -3'), "P99 -3"),
        (rows(1, 0.5).replace('"input_tokens": 128', '"input_tokens": true'), "input_tokens True"),
        (rows(1, 0.5) + rows(2, 0.5).replace('"model": "m"', '"model": "n"'), "m, n"),
    ],
)
def test_malformed_rows_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(ProfilerUsageError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("slos", "message"),
    [
        ([], "depends on the SLO"),
        (["ttft_p95<=1s"], "can't tell ttft_p95"),
        (["ttft_from_schedule_p99<=1s"], "can't tell"),
    ],
)
def test_objectives_that_the_rows_do_not_hold_are_refused(slos: list[str], message: str) -> None:
    with pytest.raises(ProfilerUsageError, match=message):
        read(rows(1, 0.5), parse_slos(slos))


def test_both_formats_are_told_apart() -> None:
    assert is_benchmark("\n" + rows(1, 0.5))
    assert not is_benchmark('{"gpu": "a10", "tputs": []}')
