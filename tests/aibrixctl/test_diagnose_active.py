"""``diagnose --active`` on the CPU, and what its view says of measurements."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

TORCH = importlib.util.find_spec("torch") is not None


@pytest.mark.skipif(TORCH, reason="torch is installed")
def test_without_torch_health_is_not_known(cli_json: Callable[..., Any]) -> None:
    body = cli_json("diagnose", "--active", "quick", "--device", "cpu")
    # Of a machine that has accelerators, faults may be found too.
    assert body["exit_code"] in (3, 10)
    reasons = [one["reason"] for one in body["data"]["unchecked"] if one["check"] == "active"]
    assert any("pip install 'aibrixctl[torch]'" in reason for reason in reasons)


@pytest.mark.skipif(not TORCH, reason="needs torch: pip install 'aibrixctl[torch]'")
def test_a_cpu_run_is_said_to_be_one(cli_json: Callable[..., Any]) -> None:
    body = cli_json("diagnose", "--active", "quick", "--device", "cpu")
    assert "diagnose.cpu_only" in [warning["code"] for warning in body["warnings"]]
    measured = body["data"]["facts"]["active"]["devices"][0]["measured"]
    assert measured["products float32"]["wrong_products"] == 0


def drawn(active: dict[str, Any]) -> str:
    from rich.console import Console

    from aibrixctl.active_view import draw_active

    console = Console(width=200)
    with console.capture() as captured:
        draw_active(console, active)
    return captured.get()


def test_the_view_gives_each_test_with_its_share_of_the_figure() -> None:
    rate = {"dtype": "bf16", "flops_per_s": 640e12, "repeats": True}
    wrong = {"dtype": "fp16", "products": 90, "wrong_products": 2}
    peers = {
        "peer 0 to 1": {"bytes_per_s": 380e9, "wrong_words": 0},
        "peer 1 to 0": {"bytes_per_s": 370e9, "wrong_words": 0},
    }
    gpu = {
        "kind": "gpu",
        "index": 3,
        "name": "NVIDIA H100 80GB HBM3",
        "measured": {"rate bfloat16": rate, "products float16": wrong},
        "fractions": {"bf16": 0.647},
    }
    text = drawn({"level": "full", "devices": [gpu], "peers": peers})
    lines = text.splitlines()
    assert lines[1] == "Active tests, full"
    assert any("GPU 3" in line and "640 TFLOP/s" in line and "65%" in line for line in lines)
    assert "90 products, 2 WRONG" in text
    assert "2 ways, all right; the slowest 1 to 0 with 370 GB/s" in text
    assert "CPU" not in text
