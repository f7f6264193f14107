"""``aibrixctl profile`` on a real vLLM with a tiny model; its own metrics are the other witness.

The command is that of AIBRIXCTL_TEST_VLLM, ``vllm`` on the PATH, or that of ``.make/real-vllm``.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aibrixctl import schemas
from profiler.table import load as load_table

from .vllm_server import LONGEST, MODEL, Vllm, requires_vllm

pytestmark = requires_vllm
ENDPOINTS = ("/v1/completions", "/v1/chat/completions")
INPUT, OUTPUT, REQUESTS = 128, 32, 60
CLOSED = ("--max-concurrency", "4")
OPEN = ("--request-rate", "4")
SIZE = ("--input-tokens", str(INPUT), "--output-tokens", str(OUTPUT))
COUNT = ("--num-prompts", str(REQUESTS), "--warmup", "0s")


def words(vllm: Vllm, *more: str) -> list[str]:
    load = ["profile", "load", "--base-url", vllm.url, "--model", MODEL, *more]
    return [sys.executable, "-m", "aibrixctl", *load, "-o", "json"]


def checked(out: str, code: int) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(out)
    name = body["schema"].removeprefix("aibrixctl/").removesuffix("/v1")
    jsonschema.Draft202012Validator(schemas.get(name)).validate(body)
    assert body["exit_code"] == code
    return body


def run(line: list[str]) -> dict[str, Any]:
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=300)
    return checked(done.stdout, done.returncode)


def measured(vllm: Vllm, *more: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the figures of a load, and by how much each of the server's metrics grew."""
    before = vllm.metrics()
    body = run(words(vllm, *more))
    # On a busy machine the client may not certify itself (3); its figures stand.
    assert body["exit_code"] in (0, 3), body["errors"]
    after = vllm.metrics()
    return body["data"], {name: after[name] - before.get(name, 0.0) for name in after}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("arrivals", [OPEN, CLOSED], ids=["open", "closed"])
def test_figures_agree_with_the_server_s(
    vllm: Vllm, arrivals: tuple[str, ...], endpoint: str
) -> None:
    data, grown = measured(vllm, *arrivals, *SIZE, *COUNT, "--endpoint", endpoint)
    assert data["requests"] == {
        "offered": REQUESTS, "sent": REQUESTS, "completed": REQUESTS, "failed": 0, "by_cause": {}
    }  # fmt: skip
    assert data["engine"]["name"] == "vllm"
    assert data["engine"]["version"] == json.loads(vllm.ask("GET", "/version")[1])["version"]

    # Each probe of the prompt's length is a request of one token.
    probes = grown["vllm:request_success_total"] - REQUESTS
    assert 1 <= probes <= 21
    assert data["output_tokens_mean"] == OUTPUT
    assert grown["vllm:generation_tokens_total"] == REQUESTS * OUTPUT + probes
    assert data["input_tokens_mean"] == pytest.approx(INPUT, rel=0.05)
    mean = grown["vllm:prompt_tokens_total"] / (REQUESTS + probes)
    assert data["input_tokens_mean"] == pytest.approx(mean, rel=0.05)
    assert grown["vllm:prefix_cache_queries_total"] > REQUESTS * INPUT / 2
    assert grown["vllm:prefix_cache_hits_total"] <= 0.02 * grown["vllm:prefix_cache_queries_total"]

    def server_s(name: str) -> float:
        return 1e3 * grown[f"vllm:{name}_seconds_sum"]

    gaps = grown["vllm:inter_token_latency_seconds_count"]
    assert gaps == REQUESTS * (OUTPUT - 1)
    itl, tpot = server_s("inter_token_latency"), server_s("request_time_per_output_token")
    assert data["itl_ms"]["mean"] == pytest.approx(itl / gaps, rel=0.15, abs=1)
    assert data["tpot_ms"]["mean"] == pytest.approx(tpot / REQUESTS, rel=0.15, abs=1)
    # The server's clock starts when it has read a request and stops before it writes.
    ttft, e2e = server_s("time_to_first_token"), server_s("e2e_request_latency")
    assert 0.8 * ttft <= REQUESTS * data["ttft_ms"]["mean"] <= 1.5 * ttft + 30 * REQUESTS
    assert 0.9 * e2e <= REQUESTS * data["e2e_ms"]["mean"] <= 1.2 * e2e + 30 * REQUESTS


def test_a_second_run_with_the_same_seed_meets_no_prompt_in_the_cache(vllm: Vllm) -> None:
    line = (*CLOSED, "--input-tokens", "512", "--output-tokens", "2", "--num-prompts", "16")
    for _ in range(2):
        _, grown = measured(vllm, *line, "--warmup", "0s", "--seed", "7")
        assert grown["vllm:prefix_cache_queries_total"] >= 16 * 400
        assert grown["vllm:prefix_cache_hits_total"] == 0


def test_a_shared_prefix_is_found_in_the_cache(vllm: Vllm) -> None:
    line = (*CLOSED, "--input-tokens", "1024", "--output-tokens", "2", "--num-prompts", "16")
    _, grown = measured(vllm, *line, "--warmup", "0s", "--shared-prefix-tokens", "768")
    share = grown["vllm:prefix_cache_hits_total"] / grown["vllm:prefix_cache_queries_total"]
    assert 0.3 <= share <= 0.8


def test_prompts_that_just_fit_the_context_all_pass(vllm: Vllm) -> None:
    line = ("--input-tokens", str(LONGEST - 4), "--output-tokens", "4", "--num-prompts", "12")
    data, _ = measured(vllm, *CLOSED, *line, "--warmup", "0s")
    assert data["requests"]["failed"] == 0
    assert data["input_tokens_mean"] == pytest.approx(LONGEST - 4, rel=0.03)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--model", "no-such-model"), "load.model", f"it serves {MODEL}"),
        (("--output-tokens", str(LONGEST)), "load.context_length", f"takes at most {LONGEST}"),
        (("--input-tokens", str(2 * LONGEST)), "load.context_length", f"takes at most {LONGEST}"),
    ],
)
def test_what_the_server_can_t_do_is_said_before_any_load(
    vllm: Vllm, more: tuple[str, ...], code: str, message: str
) -> None:
    before = vllm.metrics()["vllm:prompt_tokens_total"]
    body = run(words(vllm, *OPEN, *SIZE, *more))
    assert body["exit_code"] == 2
    assert body["errors"][0]["code"] == code
    assert message in body["errors"][0]["message"]
    assert vllm.metrics()["vllm:prompt_tokens_total"] == before


def wait_for(vllm: Vllm, name: str, at_least: float, at_most: float = float("inf")) -> None:
    deadline = time.monotonic() + 60
    while not at_least <= vllm.metrics()[name] <= at_most:
        assert time.monotonic() < deadline, f"{name} is {vllm.metrics()[name]}"
        time.sleep(0.05)


def test_sigint_prints_what_was_measured_and_frees_the_server(vllm: Vllm) -> None:
    done = vllm.metrics()["vllm:request_success_total"]
    line = words(vllm, *CLOSED, *SIZE, "--duration", "10m", "--warmup", "0s")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        wait_for(vllm, "vllm:request_success_total", done + 60)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    body = checked(out, process.returncode)
    assert (body["exit_code"], body["status"], body["data"]["complete"]) == (130, "partial", False)
    assert body["data"]["requests"]["completed"] >= 10
    wait_for(vllm, "vllm:num_requests_running", 0, at_most=0)


def test_a_cell_is_searched(vllm: Vllm, tmp_path: Path) -> None:
    line = ["profile", "run", "--target", f"tiny={vllm.url}", "--cost", "tiny=1"]
    line += ["--model", MODEL, "--input-tokens", "64", "--output-tokens", "16"]
    line += ["--slo", "e2e_p50<=1s", "--duration", "3s", "--warmup", "1s", "--tolerance", "50%"]
    line += ["--max-probes", "10", "--out", str(tmp_path / "p"), "-o", "json"]
    body = run([sys.executable, "-m", "aibrixctl", *line])
    assert body["exit_code"] in (0, 3), body["errors"]
    table = load_table(tmp_path / "p" / "tiny.table.json")
    assert table.provenance.engine == "vllm"
    (cell,) = table.cells
    assert cell.status in ("measured", "client_limited")
    assert cell.max_request_rate is not None and cell.max_request_rate > 0.5
