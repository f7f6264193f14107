"""Whole profiling runs on the simulator, and on engines that misbehave."""

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accelerators.errors import ToolError
from profiler import table as tables
from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.probes import Measurement
from profiler.run import ProfileRun, Step, run_profile
from profiler.run_config import ProfileConfig
from profiler.samples import Stats
from profiler.sim_worker import SimulatedWorker
from profiler.slo import parse_slos
from profiler.targets import parse_targets
from profiler.verdict import ProbeOutcome, failed_probe

SIMULATED = ProfileConfig(
    model="deepseek-coder-6.7b",
    targets=parse_targets(["a10=sim:a10"]),
    input_tokens=(128, 1024),
    output_tokens=(16, 64),
    slos=parse_slos(["ttft_p90<=1s", "tpot_p90<=60ms"]),
    tolerance=0.1,
)


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of SIMULATED."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1767225600")
        out = tmp_path_factory.mktemp("whole")
        run_profile(SIMULATED, out)
    return out


def test_a_run_leaves_a_table_that_reads_back(whole: Path) -> None:
    table = tables.load(whole / "a10.table.json")
    assert table.provenance.source == "simulated"
    assert table.accelerator == "a10"
    assert [cell.status for cell in table.cells] == ["measured"] * 4
    rates = {(c.input_tokens, c.output_tokens): c.max_request_rate or 0 for c in table.cells}
    assert rates[128, 16] > rates[1024, 16]
    assert rates[128, 16] > rates[128, 64] > rates[1024, 64]
    for cell in table.cells:
        assert cell.failing_request_rate is not None
        assert cell.max_request_rate is not None
        assert cell.failing_request_rate <= cell.max_request_rate * 1.1 * 1.001
        tpot = cell.latency["tpot"]
        assert tpot is not None
        assert tpot.p90 <= 60


def test_the_same_seed_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    run_profile(SIMULATED, tmp_path)
    for name in ("a10.table.json", "probes.jsonl"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_another_seed_gives_other_probes(whole: Path, tmp_path: Path) -> None:
    other = replace(SIMULATED, seed=1, input_tokens=(128,), output_tokens=(16,))
    run_profile(other, tmp_path)
    seeds = {
        json.loads(line)["seed"]
        for line in (tmp_path / "probes.jsonl").read_text().splitlines()
        if '"type": "probe"' in line
    }
    assert len(seeds) >= 2
    assert not any(f'"seed": {seed},' in (whole / "probes.jsonl").read_text() for seed in seeds)


def stop_after(probes: int, stop: threading.Event) -> Callable[[Step], None]:
    seen: list[Step] = []

    def on_step(step: Step) -> None:
        seen.append(step)
        if sum(step.outcome is not None for step in seen) >= probes:
            stop.set()

    return on_step


@pytest.mark.parametrize("probes", [1, 9, 20])
def test_an_interrupted_run_resumes_to_the_same_table(
    probes: int, whole: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    first = run_profile(SIMULATED, tmp_path, stop=stop, on_step=stop_after(probes, stop))
    assert first.interrupted
    assert first.not_measured > 0
    partial = tables.load(tmp_path / "a10.table.json")
    assert sum(cell.status == "not_measured" for cell in partial.cells) == first.not_measured
    second = run_profile(SIMULATED, tmp_path, resume=True)
    assert not second.interrupted
    assert second.replayed == first.probes == probes
    assert (tmp_path / "a10.table.json").read_bytes() == (whole / "a10.table.json").read_bytes()


TWO = replace(SIMULATED, targets=parse_targets(["l4=sim:l4", "a10=sim:a10"]), output_tokens=(16,))


def test_targets_in_processes_of_their_own_give_the_same_tables(tmp_path: Path) -> None:
    seen: list[Step] = []
    apart = run_profile(TWO, tmp_path / "apart", jobs=2, on_step=seen.append)
    after = run_profile(TWO, tmp_path / "after")
    assert apart.tables == after.tables
    assert [table.target for table in apart.tables] == ["l4", "a10"]
    assert apart.probes == after.probes == sum(step.outcome is not None for step in seen)
    assert seen[-1].done == seen[-1].total == 4
    for name in ("a10.table.json", "l4.table.json"):
        assert (tmp_path / "apart" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (2, 2)])
def test_a_run_in_processes_resumes_from_any_point(first: int, second: int, tmp_path: Path) -> None:
    whole = run_profile(TWO, tmp_path / "whole")
    stop = threading.Event()
    cut = run_profile(TWO, tmp_path / "cut", jobs=first, stop=stop, on_step=stop_after(9, stop))
    assert cut.interrupted
    resumed = run_profile(TWO, tmp_path / "cut", jobs=second, resume=True)
    assert resumed.tables == whole.tables
    assert resumed.replayed == cut.probes


def test_an_error_of_one_target_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = []

    def probe(self: SimulatedWorker, *what: Any) -> Measurement:
        pids.append(self._process.pid)
        self._process.kill()
        return original(self, *what)

    original = SimulatedWorker.probe
    monkeypatch.setattr(SimulatedWorker, "probe", probe)
    with pytest.raises(ToolError, match="has ended"):
        run_profile(TWO, tmp_path, jobs=2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_resuming_a_finished_run_probes_nothing(whole: Path, tmp_path: Path) -> None:
    run_profile(SIMULATED, tmp_path)
    again = run_profile(SIMULATED, tmp_path, resume=True)
    assert again.probes == 0
    assert again.replayed > 0


def test_an_existing_run_is_not_overwritten(whole: Path) -> None:
    with pytest.raises(ProfilerUsageError, match="earlier run"):
        run_profile(SIMULATED, whole)


def test_resuming_under_another_slo_is_refused_with_the_difference(whole: Path) -> None:
    other = replace(SIMULATED, slos=parse_slos(["ttft_p90<=2s"]))
    with pytest.raises(ProfilerUsageError, match=r"slos.*tpot_p90<=60ms.*ttft_p90<=2s"):
        run_profile(other, whole, resume=True)


def test_a_price_does_not_invalidate_measurements(tmp_path: Path) -> None:
    small = replace(SIMULATED, input_tokens=(128,), output_tokens=(16,))
    run_profile(small, tmp_path)
    dear = replace(small, targets=parse_targets(["a10=sim:a10"], costs=["a10=99"]))
    again = run_profile(dear, tmp_path, resume=True)
    assert again.probes == 0
    assert again.tables[0].cost_usd_per_hour == 99


def test_a_slo_that_no_rate_meets_is_infeasible(tmp_path: Path) -> None:
    config = replace(
        SIMULATED, slos=parse_slos(["tpot_p90<=1ms"]), input_tokens=(128,), output_tokens=(16,)
    )
    (cell,) = run_profile(config, tmp_path).tables[0].cells
    assert (cell.status, cell.max_request_rate, cell.limited_by) == ("infeasible", 0.0, "tpot_p90")
    lone = cell.latency["tpot"]
    assert lone is not None
    assert lone.mean > 1


def test_a_size_beyond_the_context_is_infeasible_and_says_why(tmp_path: Path) -> None:
    config = replace(SIMULATED, input_tokens=(128, 1_000_000), output_tokens=(16,))
    small, large = run_profile(config, tmp_path).tables[0].cells
    assert small.status == "measured"
    assert (large.status, large.limited_by) == ("infeasible", "context_length")


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = replace(SIMULATED, model="llama-2-70b")
    with pytest.raises(ToolError, match="does not fit"):
        run_profile(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_engine_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    config = replace(SIMULATED, targets=parse_targets([f"x=http://127.0.0.1:{port}"]))
    with pytest.raises(EngineUnreachableError):
        run_profile(config, tmp_path)


def test_every_engine_is_looked_up_before_any_is_measured(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    targets = parse_targets(["a10=sim:a10", f"x=http://127.0.0.1:{port}"])
    with pytest.raises(EngineUnreachableError):
        run_profile(replace(SIMULATED, targets=targets), tmp_path)
    assert len((tmp_path / "probes.jsonl").read_text().splitlines()) == 1
    run = run_profile(SIMULATED, tmp_path / "other")
    assert run.not_measured == 0


class Scripted:
    """An engine of a given capacity that is lost after some probes."""

    def __init__(self, capacity: float, lost_after: int, version: str = "0.32.0"):
        self.version = version
        self.capacity = capacity
        self.lost_after = lost_after
        self.requests = 100
        self.seeds: list[int] = []

    def check(self) -> None:
        pass

    def probe(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> Measurement:
        self.seeds.append(seed)
        if len(self.seeds) > self.lost_after:
            error = EngineUnreachableError("engine.unreachable", "connection refused")
            return Measurement(failed_probe(error.message), lost=error)
        passes = rate is None or rate * input_tokens * output_tokens <= self.capacity
        outcome = ProbeOutcome(
            "pass" if passes else "miss",
            request_rate=rate or 1.0,
            requests=self.requests,
            reasons=() if passes else ("ttft_p90",),
            latency={"e2e": Stats(1000, 1000, 1000, 1000, 1000)},
        )
        return Measurement(outcome, None, "vllm", self.version)


def run_scripted(
    engine: Scripted, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> ProfileRun:
    monkeypatch.setattr("profiler.run.prober_of", lambda *_: engine)
    config = replace(SIMULATED, targets=parse_targets(["x=http://127.0.0.1:1"]))
    return run_profile(config, out, **options)


def test_every_probe_of_an_engine_has_its_own_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(1e5, lost_after=1000)
    run = run_scripted(engine, tmp_path, monkeypatch)
    assert len(set(engine.seeds)) == len(engine.seeds) == run.probes
    assert run.tables[0].provenance.engine == "vllm"
    assert run.tables[0].provenance.source == "measured"


def test_a_percentile_over_too_few_requests_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(1e5, lost_after=1000)
    engine.requests = 19
    run = run_scripted(engine, tmp_path, monkeypatch)
    for cell in run.tables[0].cells:
        assert "percentiles rest on 19 requests; 20 are needed" in cell.notes


def test_a_table_names_every_engine_that_it_rests_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_scripted(Scripted(1e5, lost_after=15), tmp_path, monkeypatch)
    newer = Scripted(1e5, lost_after=1000, version="0.33.0")
    resumed = run_scripted(newer, tmp_path, monkeypatch, resume=True)
    assert resumed.tables[0].provenance.engine == "vllm"
    assert resumed.tables[0].provenance.engine_version == "0.32.0 and 0.33.0"


def test_a_table_has_the_date_of_its_last_probe(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probes.jsonl").write_bytes((whole / "probes.jsonl").read_bytes())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    run_profile(SIMULATED, tmp_path, resume=True)
    assert (tmp_path / "a10.table.json").read_bytes() == (whole / "a10.table.json").read_bytes()


def test_a_lost_engine_leaves_what_was_measured_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_scripted(Scripted(1e5, lost_after=15), tmp_path, monkeypatch)
    statuses = [cell.status for cell in run.tables[0].cells]
    assert statuses[0] == "measured"
    assert statuses[-1] == "not_measured"
    assert list(run.lost) == ["x"]
    assert "connection refused" in run.tables[0].cells[-1].notes[0]
    healthy = Scripted(1e5, lost_after=1000)
    resumed = run_scripted(healthy, tmp_path, monkeypatch, resume=True)
    assert resumed.not_measured == 0
    assert resumed.replayed == 15
    other = tmp_path / "whole"
    uninterrupted = run_scripted(Scripted(1e5, lost_after=1000), other, monkeypatch)
    assert resumed.tables[0].cells == uninterrupted.tables[0].cells
