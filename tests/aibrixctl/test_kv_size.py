"""`kv size`: pools for a trace, in blocks, bytes and dollars, as a table, a page and JSON."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aibrixctl import chart, kv_size_view
from aibrixctl.report.curves import curves
from aibrixctl.screen import Screen
from kvpool.sizing.policies import POLICIES
from tests.kvpool.test_sizing import chats, written

Cli = Callable[..., Any]
MODEL = ("--model", "llama-3-8b")  # 128 KiB a token
GIB = 1 << 30


@pytest.fixture(autouse=True)
def trace(tmp_path: Path) -> str:
    """Conversations of 64-token blocks, in the current folder."""
    return written(tmp_path, chats(), 64).name


def size(call: Cli, *words: str, block_tokens: int = 64) -> Any:
    line = ("kv", "size", "--trace", "trace.jsonl", "--block-tokens", str(block_tokens))
    return call(*line, *words)


def test_sizes_are_powers_of_two_in_bytes(cli_json: Cli) -> None:
    data = size(cli_json, *MODEL)["data"]
    assert data["bytes_per_token"] == 128 << 10
    found = [point["bytes"] for point in data["curves"][0]["points"]]
    assert found == [found[0] << power for power in range(9)]
    assert found[-1] >= data["working_set"]["bytes"] > found[-1] / 2
    assert [curve["policy"] for curve in data["curves"]] == ["lru", "s3fifo", "sieve", "arc"]
    for curve in data["curves"]:
        assert curve["points"][-1]["hit_rate"] == pytest.approx(data["best_hit_rate"], abs=1e-6)
        for point in curve["points"]:
            assert point["bytes"] == point["blocks"] * 64 * (128 << 10)
            assert point["tokens"] == point["blocks"] * 64
            assert point["hit_rate"] <= point["resident_rate"] <= data["best_hit_rate"]


def test_a_wanted_hit_rate_has_a_size_and_a_price(cli_json: Cli) -> None:
    words = ("--hit-rate", "50%", "--price-per-gib-month", "2", "--policy", "lru,opt")
    lru, opt = (curve["wanted"] for curve in size(cli_json, *MODEL, *words)["data"]["curves"])
    assert lru["hit_rate"] == 0.5
    assert lru["usd_per_month"] == round(lru["bytes"] / GIB * 2, 2)
    assert opt["blocks"] < lru["blocks"]


def test_a_long_trace_is_simulated_in_part_and_says_so(cli_json: Cli) -> None:
    body = size(cli_json, "--simulate", "2000")
    assert 0 < body["data"]["sampled_share"] < 0.6
    assert [warning["code"] for warning in body["warnings"]] == ["kv.sampled"]
    alone = size(cli_json, "--simulate", "2000", "--policy", "lru")
    assert (alone["data"]["sampled_share"], alone["warnings"]) == (1, [])


def test_policies_are_not_compared_where_a_sample_misleads(cli: Cli, cli_json: Cli) -> None:
    draw = np.random.default_rng(1)
    users = (draw.pareto(0.6, 4000) % 2000).astype(int)  # one takes up half of the trace
    requests = [[64 * int(user) + n for n in range(40)] for user in users]
    Path("trace.jsonl").write_text("".join(json.dumps({"hash_ids": r}) + "\n" for r in requests))
    words = ("--hit-rate", "50%", "--policy", "lru,sieve", "--simulate", "5000")
    body = size(cli_json, *words)
    assert body["data"]["sample_error"] > 0.05
    assert "take the other policies' for hints only" in body["warnings"][0]["message"]
    assert "--simulate 160000" in body["warnings"][0]["hint"]
    assert re.search(r"^sieve .* -$", size(cli, *words).out, re.MULTILINE)
    assert size(cli_json, *words, "--simulate", "160000")["warnings"] == []


def test_without_bytes_sizes_are_blocks(cli: Cli, cli_json: Cli) -> None:
    data = size(cli_json, "--hit-rate", "0.5", "--policy", "lru")["data"]
    assert data["working_set"]["bytes"] is data["curves"][0]["wanted"]["bytes"] is None
    blocks = [point["blocks"] for point in data["curves"][0]["points"]]
    assert blocks == [blocks[0] << power for power in range(9)]
    assert "LRU needs" in size(cli).out


def test_own_sizes(cli_json: Cli) -> None:
    data = size(cli_json, "--bytes-per-token", "1MiB", "--sizes", "2GiB,1GiB")["data"]
    assert [point["blocks"] for point in data["curves"][1]["points"]] == [16, 32]


def test_a_hit_rate_beyond_any_pool_is_exit_11(cli: Cli, cli_json: Cli) -> None:
    body = size(cli_json, "--hit-rate", "99%")
    assert (body["exit_code"], body["status"]) == (11, "error")
    assert body["errors"][0]["code"] == "kv.size.hit_rate"
    assert all(curve["wanted"]["blocks"] is None for curve in body["data"]["curves"])
    outcome = size(cli, "--hit-rate", "99%")
    assert "none" in outcome.out
    assert "--warmup" in outcome.err


def test_the_table_fits_80_columns_and_shows_the_curves(cli: Cli) -> None:
    words = ("--hit-rate", "50%", "--price-per-gib-month", "3")
    outcome = size(cli, *MODEL, *words, "--policy", "lru,s3fifo-aibrix,arc,opt")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "blocks of 64 tokens, 128 KiB a token" in outcome.out
    assert "L lru   S s3fifo-aibrix   A arc   O opt" in outcome.out
    assert re.search(r"^lru +[\d,]+ +[\d.]+ GiB +[\d.]+ +\+0%$", outcome.out, re.MULTILINE)
    assert re.search(r"^ *80% ┤", outcome.out, re.MULTILINE)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_the_picture_fits_the_terminal(columns: int) -> None:
    points = [{"blocks": n, "bytes": None, "hit_rate": 0.1} for n in (1024, 2048, 4096)]
    document = {"trace": "t", "requests": 1, "accesses": 1, "distinct_blocks": 1}
    document |= {"block_tokens": 64, "bytes_per_token": None, "warmup_share": 0}
    document |= {"best_hit_rate": 0.1, "working_set": points[0]}
    document["curves"] = [{"policy": "lru", "points": points, "wanted": None}]
    screen = Screen(file=io.StringIO(), width=columns)
    kv_size_view.draw(screen, document)
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    axis = next(line for line in lines if "└" in line)
    picture = lines[lines.index("hit rate over pool size") + 1 : lines.index(axis)]
    assert len(picture) == 13
    assert max(map(len, picture)) == len(axis) <= columns


@pytest.mark.parametrize("form", ["wide", "yaml", "csv", "jsonl"])
def test_every_format(form: str, cli: Cli) -> None:
    outcome = size(cli, "-o", form)
    assert outcome.code == 0
    assert "sieve" in outcome.out
    if form == "jsonl":
        records = [json.loads(line) for line in outcome.out.splitlines()]
        assert [record["type"] for record in records] == ["point"] * 36 + ["summary"]


def test_the_report_is_one_page_with_curves(cli: Cli) -> None:
    words = ("--hit-rate", "50%", "--price-per-gib-month", "3", "--report", "size.html")
    assert size(cli, *MODEL, *words).code == 0
    html = Path("size.html").read_text()
    assert not re.search(r"(src|href)=|url\(|@import|https?://|<script", html)
    drawing = ET.fromstring(re.search(r"<svg.*?</svg>", html, re.DOTALL)[0])  # type: ignore[index]
    assert len(list(drawing.iter("polyline"))) == 4
    assert len(list(drawing.iter("circle"))) == 36
    assert "50.0% wanted" in html
    assert "a month for that" in html


def test_block_tokens_that_do_not_fit_are_said(cli_json: Cli) -> None:
    body = size(cli_json, block_tokens=512)
    (warning,) = body["warnings"]
    assert warning["hint"] == "give --block-tokens 64"
    assert size(cli_json)["warnings"] == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--policy", "lur"), "kv.policy.unknown"),
        (("--policy", ","), "kv.policy.none"),
        (("--hit-rate", "60"), "units.range"),
        (("--warmup", "100%"), "kv.size.warmup"),
        (("--model", "llama-9"), "model.unknown"),
        ((*MODEL, "--bytes-per-token", "1KiB"), "option.conflict"),
        (("--bytes-per-token", "0"), "option.bytes_per_token"),
        (("--price-per-gib-month", "2"), "option.price"),
        ((*MODEL, "--price-per-gib-month", "-2"), "option.price"),
        (("--sizes", "1GiB"), "option.sizes"),
        ((*MODEL, "--sizes", "1KiB"), "option.sizes"),
        (("--trace", "none.jsonl"), "kv.trace.unreadable"),
    ],
)
def test_bad_input_is_a_usage_error(words: tuple[str, ...], code: str, cli_json: Cli) -> None:
    body = size(cli_json, *words)
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, code)


def test_a_folder_that_is_not_there_gets_no_report(cli: Cli) -> None:
    assert size(cli, "--report", "none/size.html").code == 1


def test_an_interrupt_while_reading_says_so(tmp_path: Path) -> None:
    """The trace comes through a pipe that this test holds open, so the signal finds it reading."""
    os.mkfifo("pipe")
    words = ["kv", "size", "--trace", "pipe", "-o", "json"]
    process = subprocess.Popen([sys.executable, "-m", "aibrixctl", *words], stdout=subprocess.PIPE)
    line = b'{"hash_ids": [1, 2, 3]}\n'
    with contextlib.suppress(BrokenPipeError), Path("pipe").open("wb", buffering=0) as pipe:
        pipe.write(line * 30_000)
        process.send_signal(signal.SIGINT)
        while True:
            pipe.write(line * 30_000)
    out, _ = process.communicate(timeout=60)
    body = json.loads(out)
    assert (process.returncode, body["exit_code"], body["data"]) == (130, 130, None)


def test_the_help_names_every_policy(cli: Cli) -> None:
    words = cli("kv", "size", "--help").out.replace(",", " ").replace(".", " ").split()
    assert set(POLICIES) <= set(words)


@pytest.mark.parametrize("points", [[(1.0, 0.0)], [(8.0, 0.5)], [(1.0, 0.1), (64.0, 1.0)]])
def test_curves_of_any_number_of_points(points: list[tuple[float, float]]) -> None:
    series = {"lru": points, "lfu": points}
    lines = [line.plain for line in chart.curves(series, [(points[-1][0], "size")])]
    assert "L lru   F lfu" in lines[-1]
    assert "size" in lines[-2]
    assert sum("L" in line for line in lines[:-1]) >= 1
    drawing = curves("t", series, [(1.0, "1")], {"lru": "#111", "lfu": "#222"}, across="x")
    assert {"1", "x"} <= {node.text for node in ET.fromstring(drawing).iter("text")}
