import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from profiler.samples import Stats
from profiler.slo import parse_slos
from profiler.table import Cell, Provenance, Status, ThroughputTable, save
from tests.redis_server import Server, redis_server, requires_redis


def table(target: str, rates: dict[tuple[int, int], tuple[Status, float | None]]) -> None:
    """Write a table into ``profiles``."""

    def cell(bounds: tuple[int, int], status: Status, rate: float | None) -> Cell:
        stats = Stats(40.0, 38.0, 45.0, 47.0, 49.5)
        latency = {"ttft": stats, "tpot": stats, "e2e": stats} if rate else {}
        return Cell(*bounds, status, rate, latency=dict(latency), limited_by="tpot_p99")

    Path("profiles").mkdir(exist_ok=True)
    made = ThroughputTable(
        model="m",
        target=target,
        accelerator=target,
        gpus_per_replica=2 if target == "l20" else 1,
        cost_usd_per_hour=0.9 if target == "a10" else 1.5,
        slos=parse_slos(["ttft_p99<=2s", "tpot_p99<=50ms"]),
        input_tokens=(128, 2048),
        output_tokens=(32, 512),
        cells=tuple(cell(bounds, *found) for bounds, found in rates.items()),
        provenance=Provenance(
            source="measured",
            engine="vllm",
            engine_version="0.32.0",
            where="http://10.0.0.7:8000",
            seed=0,
            created="2026-01-01T00:00:00Z",
            tolerance=0.05,
        ),
    )
    save(made, f"profiles/{target}.table.json")


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    table(
        "a10",
        {
            (128, 32): ("measured", 10.0),
            (128, 512): ("client_limited", 4.25),
            (2048, 32): ("measured", 1.5),
            (2048, 512): ("infeasible", 0.0),
        },
    )
    table(
        "l20",
        {
            (128, 32): ("measured", 15.0),
            (128, 512): ("measured", 12.0),
            (2048, 32): ("measured", 1.55),
            (2048, 512): ("measured", 0.4),
        },
    )
    table(
        "h20",
        {
            (128, 32): ("measured", 30.0),
            (128, 512): ("not_measured", None),
            (2048, 32): ("measured", 3.0),
            (2048, 512): ("measured", 0.8),
        },
    )


A10, L20, H20 = (f"profiles/{name}.table.json" for name in ("a10", "l20", "h20"))


def test_show_draws_rates_and_what_they_mean(
    cli: Callable[..., Any], snapshot: SnapshotAssertion
) -> None:
    outcome = cli("profile", "show", A10, H20)
    assert outcome.code == 0
    assert outcome.out == snapshot


def test_show_wide_lists_latencies(cli: Callable[..., Any], snapshot: SnapshotAssertion) -> None:
    assert cli("profile", "show", A10, "-o", "wide").out == snapshot


def test_show_colours_only_where_there_is_colour(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[" not in cli("profile", "show", A10).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli("profile", "show", A10).out


def test_show_as_json_is_the_tables(cli_json: Callable[..., Any]) -> None:
    body = cli_json("profile", "show", "profiles")
    assert [t["target"] for t in body["data"]["tables"]] == ["a10", "h20", "l20"]
    assert body["data"]["tables"][0] == json.loads(Path(A10).read_text())


def test_show_reads_what_show_printed(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    one = cli_json("profile", "show", A10)["data"]["tables"][0]
    Path("again.json").write_text(json.dumps(one))
    assert cli("profile", "show", "again.json").out == cli("profile", "show", A10).out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "aibrixctl/throughput-table/v2"}, "this version reads"),
        ({"schema": "aibrixctl/plan/v1"}, "expected aibrixctl/throughput-table/v1"),
        ({"input_tokens": [2048, 128]}, "ascending"),
        ({"cells": []}, "0 cells"),
        ({"gpus_per_replica": -1}, "gpus_per_replica is -1"),
    ],
)
def test_tables_that_cannot_be_read_say_why(
    change: dict[str, Any], message: str, cli: Callable[..., Any]
) -> None:
    Path("bad.json").write_text(json.dumps(json.loads(Path(A10).read_text()) | change))
    outcome = cli("profile", "show", "bad.json")
    assert outcome.code == 2
    assert message in outcome.err


def test_a_torn_table_and_an_empty_folder_say_what_to_do(cli: Callable[..., Any]) -> None:
    Path("torn.json").write_text(Path(A10).read_text()[:200])
    assert "cut short" in cli("profile", "show", "torn.json").err
    Path("empty").mkdir()
    assert "profile run" in cli("profile", "show", "empty").err


def test_compare_draws_ratios_and_costs(
    cli: Callable[..., Any], snapshot: SnapshotAssertion
) -> None:
    outcome = cli("profile", "compare", A10, L20)
    assert outcome.code == 0
    assert outcome.out == snapshot


def test_compare_as_json(cli_json: Callable[..., Any]) -> None:
    data = cli_json("profile", "compare", A10, L20)["data"]
    assert data["cheaper_cells"] == {"a": 2, "b": 1}
    assert [cell["ratio"] for cell in data["cells"]] == [1.5, 2.823529, 1.033333, None]


def test_compare_refuses_other_objectives(cli: Callable[..., Any]) -> None:
    other = json.loads(Path(L20).read_text())
    other["slos"][0]["limit_ms"] = 99
    Path("other.json").write_text(json.dumps(other))
    outcome = cli("profile", "compare", A10, "other.json")
    assert outcome.code == 2
    assert "tpot_p99<=50ms against tpot_p99<=99ms" in outcome.err


def test_export_to_aibrix_and_import_back(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    body = cli_json("profile", "export", L20, "--to", "aibrix", "--out", "l20.json")
    assert body["data"] == {"format": "aibrix", "files": ["l20.json"], "documents": []}
    profile = json.loads(Path("l20.json").read_text())
    assert profile["tputs"] == [[15.0, 1.55], [12.0, 0.4]]
    words = ("--model", "m", "--accelerator", "l20", "--gpus", "2", "--out", "back")
    imported = cli_json("profile", "import", "l20.json", *words)
    assert imported["data"]["format"] == "aibrix-profile"
    (back,) = imported["data"]["tables"]
    ours = json.loads(Path(L20).read_text())
    for name in ("model", "target", "slos", "cost_usd_per_hour", "gpus_per_replica"):
        assert back[name] == ours[name]
    assert cli("profile", "compare", L20, "back/l20.table.json").code == 0


def test_export_prints_exactly_the_document_without_out(cli: Callable[..., Any]) -> None:
    outcome = cli("profile", "export", L20, "--to", "aibrix", "--deployment", "default/l20")
    assert json.loads(outcome.out)["gpu"] == "default/l20"
    lines = cli("profile", "export", "profiles", "--to", "csv").out.splitlines()
    assert len(lines) == 13


def test_export_to_melange_joins_tables(cli: Callable[..., Any]) -> None:
    outcome = cli("profile", "export", A10, L20, "--to", "melange", "--cost", "a10=1.01,l20=2")
    info = json.loads(outcome.out)["gpu_info"]
    assert info["a10"] == {"cost": 1.01, "tputs": [[10.0, 4.25], [1.5, 0.0]]}
    assert info["l20"]["cost"] == 2
    assert "Mélange divides" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((H20, "--to", "aibrix"), "--allow-missing"),
        ((A10, L20, "--to", "aibrix"), "holds one table"),
        ((A10, "--to", "xml"), "expected aibrix, csv or melange"),
        ((A10, "--to", "csv", "--cost", "l20=1"), "names 'l20'"),
        (("missing.json", "--to", "csv"), "cannot read missing.json"),
    ],
)
def test_export_refuses_in_words(
    words: tuple[str, ...], message: str, cli: Callable[..., Any]
) -> None:
    outcome = cli("profile", "export", *words)
    assert outcome.code == 2
    assert message in outcome.err


def bench_rows() -> str:
    base = {"input_tokens": 128, "output_tokens": 32, "seed": 1, "model": "m", "samples": 100}
    rows = []
    for rate, seconds in ((1.0, 0.5), (2.0, 3.0)):
        for metric in ("TPUT", "E2E"):
            value = rate if metric == "TPUT" else seconds
            rows.append(
                base | {"request_rate": rate, "metric": metric, "mean": value, "P99": value}
            )
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_import_of_benchmark_rows_picks_the_rate_within_the_slo(
    cli_json: Callable[..., Any],
) -> None:
    Path("bench.jsonl").write_text(bench_rows())
    words = ("--target", "a10", "--slo", "e2e_p99<=2s", "--cost", "0.9", "--out", "in")
    body = cli_json("profile", "import", "bench.jsonl", *words)
    assert body["data"]["format"] == "aibrix-benchmark"
    assert body["data"]["tables"][0]["cells"][0]["max_request_rate"] == 1.0
    assert Path("in/a10.table.json").is_file()


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (bench_rows(), (), "depends on the SLO"),
        (bench_rows() + bench_rows(), ("--slo", "e2e_p99<=2s"), "earlier run"),
        ('{"gpu": "a10", "tputs": [[1]], "indexes": [[1], [1]]}', (), "--model"),
        ("{}", ("--model", "m"), "lacks gpu"),
        ("", ("--model", "m"), "not JSON"),
        ("{}", ("--model", "m", "--accelerator", "a11"), "did you mean a10"),
        (bench_rows(), ("--slo", "e2e_p99<=2s", "--target", "../a10"), "can't name a file"),
    ],
)
def test_import_refuses_in_words(
    text: str, words: tuple[str, ...], message: str, cli: Callable[..., Any]
) -> None:
    Path("file.json").write_text(text)
    outcome = cli("profile", "import", "file.json", *words, "--out", "in")
    assert outcome.code == 2
    assert message in outcome.err
    assert not Path("in").exists()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis"), password="hunter2") as running:
        yield running


@requires_redis
def test_push_shows_then_does(
    server: Server,
    cli: Callable[..., Any],
    cli_json: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("secret").write_text("hunter2\n")
    words = ("profile", "push", server.url, A10, "--password-file", "secret")
    planned = cli_json(*words, "--dry-run")["data"]
    assert (planned["pushed"], planned["profiles"][0]["action"]) == (False, "create")
    done = cli(*words)
    assert done.code == 0
    assert "pushed aibrix:profile_m_a10" in done.out
    assert "hunter2" not in done.out + done.err
    monkeypatch.setenv("AIBRIXCTL_REDIS_PASSWORD", "hunter2")
    again = cli_json("profile", "push", server.url, A10)
    assert (again["status"], again["exit_code"]) == ("error", 1)
    assert "not before this profile" in again["errors"][0]["message"]
    forced = cli_json("profile", "push", server.url, A10, "--force")
    assert forced["data"]["pushed"]
    assert forced["warnings"][0]["code"] == "push.refused"


@requires_redis
def test_a_push_right_after_another_is_newer(
    server: Server, cli_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setenv("AIBRIXCTL_REDIS_PASSWORD", "hunter2")
    found = [cli_json("profile", "push", server.url, A10) for _ in range(2)]
    assert [body["status"] for body in found] == ["success", "success"]


@requires_redis
def test_push_without_the_password_is_refused_access(
    server: Server, cli: Callable[..., Any]
) -> None:
    outcome = cli("profile", "push", server.url, A10)
    assert outcome.code == 13
    assert "--password-file" in outcome.err


def test_push_to_nothing_is_unreachable(cli: Callable[..., Any]) -> None:
    assert cli("profile", "push", "redis://127.0.0.1:9/0", A10).code == 13
