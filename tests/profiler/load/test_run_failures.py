"""What goes wrong before a load and under it: told early, counted once, never a success."""

import asyncio
import socket

import pytest

from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.load import LoadConfig, run_load
from profiler.slo import parse_slos

from .conftest import (
    DONE,
    END,
    STREAM_HEAD,
    Request,
    chunk,
    event,
    good,
    plain,
    text_event,
    usage_event,
)
from .runs import Start, Writer, configure, failing

# What the server is, before any load.


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(EngineUnreachableError, match="Connection refused") as caught:
            run_load(LoadConfig(url, "m", 8, 8, request_rate=1))
    assert caught.value.target == url


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(EngineUnreachableError, match="does not resolve"):
        run_load(LoadConfig("http://no-such-host.invalid", "m", 8, 8, request_rate=1))


def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        config = LoadConfig(url, "m", 8, 8, request_rate=1, connect_timeout_s=0.1)
        with pytest.raises(EngineUnreachableError, match=r"nothing came within 0\.1 s"):
            run_load(config)


def test_an_unknown_model_names_those_that_are_served(engine: Start) -> None:
    served = engine(models=("llama", "qwen"))
    with pytest.raises(ProfilerUsageError, match="does not serve 'm'; it serves llama, qwen"):
        run_load(configure(served))
    assert not served.requests


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_key_that_is_missing_or_wrong(engine: Start, token: str | None) -> None:
    served = engine(token="right")
    with pytest.raises(EngineUnreachableError, match="refuses access: HTTP 401, bad key") as caught:
        run_load(configure(served, token=token))
    assert "wrong" not in caught.value.message
    assert "wrong" not in repr(configure(served, token=token))


def test_the_right_key_opens(engine: Start) -> None:
    assert run_load(configure(engine(token="right"), token="right")).summary.failed == 0


def test_a_request_that_the_server_refuses_is_told_before_the_load(engine: Start) -> None:
    async def too_long(request: Request, writer: Writer) -> None:
        writer.write(plain(400, {"error": {"message": "maximum context length is 16"}}))

    served = engine(too_long)
    with pytest.raises(ProfilerUsageError, match="HTTP 400, maximum context length is 16"):
        run_load(configure(served))
    assert {request.tokens for request in served.requests} == {1}


def test_a_server_that_comes_up_late_is_waited_for(engine: Start) -> None:
    served = engine(not_ready_times=1)
    run = run_load(configure(served, ready_timeout_s=30.0))
    assert run.summary.completed == 12


def test_a_server_that_is_not_up_yet_is_told_at_once(engine: Start) -> None:
    served = engine(not_ready_times=100)
    with pytest.raises(EngineUnreachableError, match="not ready: HTTP 503, loading"):
        run_load(configure(served))
    assert not served.requests


# What goes wrong under load: counted once, by cause, never as a success.


@pytest.mark.parametrize("status", [429, 500, 503])
def test_refusals_are_failures_and_are_not_retried(engine: Start, status: int) -> None:
    async def refuse(request: Request, writer: Writer) -> None:
        writer.write(plain(status, {"error": {"message": "busy"}}))

    run, served = failing(engine, refuse, request_rate=100, max_concurrency=None, num_prompts=20)
    summary = run.summary
    assert (summary.completed, summary.failed) == (0, 20)
    assert summary.by_cause == {f"http_{status}": 20}
    assert run.messages == {f"http_{status}": "busy"}
    assert len(served.load) == 20
    assert summary.output_tokens_per_s == summary.request_rate == 0
    assert not summary.certified
    assert summary.latency["ttft"] is None


async def _partly(writer: Writer) -> None:
    writer.write(STREAM_HEAD + chunk(text_event("a")) + chunk(text_event("b")))
    await writer.drain()


async def reset_mid_stream(request: Request, writer: Writer) -> None:
    await _partly(writer)
    await asyncio.sleep(0.01)
    writer.transport.abort()


async def close_mid_stream(request: Request, writer: Writer) -> None:
    await _partly(writer)
    writer.close()


async def close_mid_event(request: Request, writer: Writer) -> None:
    writer.write(STREAM_HEAD + chunk(b"data: {"))
    await writer.drain()
    writer.close()


async def never_answer(request: Request, writer: Writer) -> None:
    await asyncio.sleep(60)


async def head_and_no_token(request: Request, writer: Writer) -> None:
    writer.write(STREAM_HEAD)
    await asyncio.sleep(60)


async def stop_mid_stream(request: Request, writer: Writer) -> None:
    await _partly(writer)
    await asyncio.sleep(60)


async def ping_for_ever(request: Request, writer: Writer) -> None:
    await _partly(writer)
    while True:
        writer.write(chunk(b": ping\n\n"))
        await writer.drain()
        await asyncio.sleep(0.05)


async def error_event(request: Request, writer: Writer) -> None:
    await _partly(writer)
    writer.write(chunk(event({"error": {"message": "CUDA out of memory"}})) + chunk(DONE) + END)


async def short(request: Request, writer: Writer) -> None:
    await _partly(writer)
    writer.write(chunk(text_event("", "stop")) + chunk(usage_event(32, 2)) + chunk(DONE) + END)


async def empty(request: Request, writer: Writer) -> None:
    writer.write(STREAM_HEAD + chunk(usage_event(32, 0)) + chunk(DONE) + END)


async def not_json(request: Request, writer: Writer) -> None:
    await _partly(writer)
    writer.write(chunk(b"data: <html>\n\n") + chunk(DONE) + END)


async def not_a_stream(request: Request, writer: Writer) -> None:
    writer.write(plain(200, {"choices": [{"text": "all at once"}]}))


async def no_end_in_sight(request: Request, writer: Writer) -> None:
    await _partly(writer)
    writer.write(END)


async def not_http(request: Request, writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")


@pytest.mark.parametrize(
    ("answer", "cause", "message"),
    [
        (reset_mid_stream, "reset", "before the answer was complete"),
        (close_mid_stream, "reset", "before the answer was complete"),
        (close_mid_event, "reset", "before the answer was complete"),
        (never_answer, "timeout_first_token", "no token for 0.3 s"),
        (head_and_no_token, "timeout_first_token", "no token for 0.3 s"),
        (stop_mid_stream, "timeout_stall", "silence for 0.2 s"),
        (ping_for_ever, "timeout", "no end of the answer for 0.6 s"),
        (error_event, "stream_error", "CUDA out of memory"),
        (short, "short_output", "2 of 4 tokens"),
        (empty, "no_output", "no token"),
        (not_json, "bad_stream", "not JSON"),
        (not_a_stream, "bad_stream", "not a stream"),
        (no_end_in_sight, "bad_stream", "without a finish_reason"),
        (not_http, "bad_stream", "not HTTP"),
    ],
)
def test_a_broken_answer_is_a_failure(engine: Start, answer, cause: str, message: str) -> None:
    run, served = failing(
        engine, answer, first_token_timeout_s=0.3, stall_timeout_s=0.2, timeout_s=0.6
    )
    assert run.summary.by_cause == {cause: 2}
    assert message in run.messages[cause]
    assert run.summary.completed == 0
    assert len(served.load) == 2
    assert len(run.samples.gap_s) == 0


def test_failures_count_against_the_objectives(engine: Start) -> None:
    turn = iter(range(1000))

    async def one_in_ten(request: Request, writer: Writer) -> None:
        await (error_event if next(turn) % 10 == 9 else good)(request, writer)

    slos = parse_slos(["ttft_p50<=10s", "ttft_p99<=10s"])
    run, _ = failing(
        engine, one_in_ten, request_rate=200, max_concurrency=None, num_prompts=50, slos=slos
    )
    assert (run.summary.completed, run.summary.failed) == (45, 5)
    assert [slo.name for slo in run.summary.violated(slos)] == ["ttft_p99"]
    assert run.summary.goodput == pytest.approx(45 / run.summary.window_s)


def test_a_short_answer_is_fine_when_the_end_is_free(engine: Start) -> None:
    run, served = failing(engine, short, ignore_eos=False)
    assert run.summary.completed == 2
    assert run.output_tokens_mean == 2
    assert any("other than 4 tokens" in note for note in run.summary.notes)
    assert "ignore_eos" not in served.load[0].body
