"""Options with a unit name themselves when they can't be read."""

from collections.abc import Callable
from typing import Any

import pytest

LOAD = (
    "profile", "load", "--base-url", "http://127.0.0.1:9", "--model", "m", "--request-rate", "1",
    "--input-tokens", "8", "--output-tokens", "8",
)  # fmt: skip
RUN = (
    "profile", "run", "--target", "a10=sim:a10", "--model", "llama-2-7b", "--input-tokens", "8",
    "--output-tokens", "8", "--slo", "e2e_p50<=1s", "--out", "p",
)  # fmt: skip
SERVE = ("profile", "serve-sim", "--accelerator", "a10", "--model", "llama-2-7b", "--port", "0")
PLAN = ("optimize", "plan", "--problem", "melange.json")
SYNTH = ("optimize", "workload", "synth", "--rate", "1", "--out", "t.csv")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (LOAD, "--duration"),
        (LOAD, "--warmup"),
        (LOAD, "--timeout"),
        (LOAD, "--first-token-timeout"),
        (LOAD, "--stall-timeout"),
        (LOAD, "--connect-timeout"),
        (LOAD, "--ready-timeout"),
        (RUN, "--duration"),
        (RUN, "--warmup"),
        (RUN, "--ready-timeout"),
        (RUN, "--tolerance"),
        (SERVE, "--duration"),
        (SERVE, "--gpu-memory-utilization"),
        (PLAN, "--time-limit"),
        (PLAN, "--headroom"),
        (PLAN, "--gap"),
        (SYNTH, "--duration"),
    ],
)
def test_a_bare_number_is_refused_with_what_was_meant(
    words: tuple[str, ...], option: str, cli: Callable[..., Any]
) -> None:
    outcome = cli(*words, option, "20")
    assert outcome.code == 2
    assert f"error: {option}: '20'" in outcome.err
    assert f"hint: write {option} 20" in outcome.err


def test_the_limit_of_an_objective_names_the_objective(cli: Callable[..., Any]) -> None:
    assert "'ttft_p99<=2': '2' has no unit" in cli(*LOAD, "--slo", "ttft_p99<=2").err


@pytest.mark.parametrize("limit", ["ttft:200", "ttft:200ms", "e2e:5s"])
def test_limits_of_requests_take_units(limit: str, cli: Callable[..., Any]) -> None:
    assert cli(*LOAD, "--goodput", limit).code == 13


@pytest.mark.parametrize(
    ("text", "hint"), [("200MiB", "hint: write --max-rate 200MiB/s"), ("fast", ""), ("0/s", "")]
)
def test_a_rate_without_its_second_is_refused_with_what_was_meant(
    text: str, hint: str, cli: Callable[..., Any]
) -> None:
    outcome = cli("kv", "migrate", "lmcache+file:a", "lmcache+file:b", "--max-rate", text)
    assert outcome.code == 2
    assert f"error: --max-rate: '{text}'" in outcome.err
    assert hint in outcome.err
    assert ("write --max-rate" in outcome.err) is bool(hint)
