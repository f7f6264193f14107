import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BATCH = [
    "profile",
    "predict",
    "--accelerator",
    "a100-80g-sxm",
    "--gpus",
    "2",
    "--model",
    "llama-2-70b",
    "--batch",
    "8",
    "--input-tokens",
    "512",
    "--output-tokens",
    "128",
]
SERVE = ("profile", "serve-sim", "--accelerator", "a10", "--model", "llama-2-7b", "--port", "0")


def test_predict_gives_times_memory_and_bounds(cli_json: Callable[..., Any]) -> None:
    """Measured: 1597 ms and 61.7 ms."""
    body = cli_json(*BATCH)["data"]
    assert 0.8 < body["prefill_ms"] / 1597 < 1.2
    assert 0.8 < body["decode_ms_per_token"] / 61.7 < 1.2
    assert body["bound"] == {"prefill": "compute", "decode": "memory"}
    assert body["fits"]
    assert body["source"] == "predicted"


def test_predict_says_that_it_is_a_prediction(cli: Callable[..., Any]) -> None:
    outcome = cli(*BATCH)
    assert outcome.out.startswith("Predicted, not measured: llama-2-70b on 2 x a100-80g-sxm")


def test_predict_warns_of_a_batch_that_does_not_fit(cli_json: Callable[..., Any]) -> None:
    body = cli_json(
        "profile", "predict", "--accelerator", "t4", "--model", "llama-2-7b",
        "--input-tokens", "512", "--output-tokens", "64", "--batch", "64",
    )  # fmt: skip
    assert not body["data"]["fits"]
    assert body["warnings"][0]["code"] == "sim.does_not_fit"


def test_bad_input_is_a_usage_error_that_names_it(cli_json: Callable[..., Any], tmp_path) -> None:
    sizes = ("--input-tokens", "8", "--output-tokens", "8")
    for accelerator, model, gpus, code in (
        ("nothing", "llama-2-7b", "1", "accelerators.unknown"),
        ("a10", "nothing", "1", "model.unknown"),
        ("a10", str(tmp_path), "1", "file.unreadable"),
        ("a10", "llama-2-7b", "3", "sim.gpus"),
        ("ascend-910b", "llama-2-7b", "0", "usage"),
    ):
        body = cli_json(
            "profile", "predict", "--accelerator", accelerator, "--model", model,
            "--gpus", gpus, *sizes,
        )  # fmt: skip
        assert body["exit_code"] == 2
        assert code in body["errors"][0]["code"]


def test_a_model_too_large_is_refused_before_serving(cli_json: Callable[..., Any]) -> None:
    body = cli_json(
        "profile", "serve-sim", "--accelerator", "a10", "--model", "llama-2-70b", "--port", "0"
    )
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "sim.does_not_fit")


def test_serving_for_a_time_reports_what_was_served(cli_json: Callable[..., Any]) -> None:
    body = cli_json(*SERVE, "--duration", "100ms")["data"]
    assert body["requests"] == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", body["url"])


@contextmanager
def serving(*more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its URL once it is ready."""
    words = [sys.executable, "-m", "aibrixctl", *SERVE, *more, "-o", "json"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r" at (http://\S+)$", line)
            assert found, line
            yield process, found[1]
        finally:
            process.kill()


def test_a_signal_ends_the_server_well_and_it_reports() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        with serving("--speed", "50", "--quiet") as (process, url):
            asked = {"prompt": "a b c", "max_tokens": 5, "ignore_eos": True}
            request = urllib.request.Request(f"{url}/v1/completions", json.dumps(asked).encode())
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert json.load(answer)["usage"]["completion_tokens"] == 5
            process.send_signal(signum)
            out, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        body = json.loads(out)
        assert (body["status"], body["data"]["generation_tokens"]) == ("success", 5)


def test_an_api_key_comes_from_a_file_and_is_not_shown(tmp_path) -> None:
    path = tmp_path / "key"
    path.write_text("very-secret\n")
    with serving("--api-key-file", str(path)) as (process, url):
        request = urllib.request.Request(
            f"{url}/v1/models", headers={"Authorization": "Bearer very-secret"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert "very-secret" not in out + err


def test_an_empty_key_file_is_refused(cli_json: Callable[..., Any], tmp_path) -> None:
    path = tmp_path / "key"
    path.write_text("\n")
    body = cli_json(*SERVE, "--api-key-file", str(path))
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "secret.empty")


def test_a_port_in_use_is_a_failure_that_names_it(cli: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        outcome = cli(*SERVE[:-1], port)
    assert outcome.code == 1
    assert port in outcome.err
    assert "--port" in outcome.err
