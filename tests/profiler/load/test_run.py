"""The load client against a real engine on a real socket."""

import asyncio
import errno
import shutil
import subprocess
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.load import Progress, driver, pool, run_load
from profiler.load.exchange import Exchange

from .conftest import (
    DONE,
    END,
    STREAM_HEAD,
    Request,
    after_probe,
    chunk,
    event,
    good,
    plain,
    text_event,
    usage_event,
)
from .runs import Start, Writer, configure, failing


def test_figures_agree_with_the_server_s_own_log(engine: Start) -> None:
    async def paced(request: Request, writer: Writer) -> None:
        writer.write(STREAM_HEAD)
        for _ in range(request.tokens):
            await asyncio.sleep(0.01)
            request.sent_at.append(time.monotonic())
            writer.write(chunk(text_event(" w")))
        writer.write(chunk(usage_event(request.prompt_tokens, request.tokens)) + chunk(DONE) + END)

    served = engine(paced)
    run = run_load(
        configure(served, request_rate=100, max_concurrency=None, num_prompts=40, output_tokens=8)
    )
    summary, log = run.summary, served.load
    assert (summary.offered, summary.sent, summary.completed, summary.failed) == (40, 40, 40, 0)
    assert run.complete
    assert (run.engine, run.engine_version) == ("scripted", "1.2")
    assert (run.output_tokens_mean, run.input_tokens_mean) == (8, 32)
    ttft = np.array([r.sent_at[0] - r.received_at for r in log])
    e2e = np.array([r.sent_at[-1] - r.received_at for r in log])
    measured, samples = summary.latency, run.samples
    assert measured["ttft"] is not None and measured["e2e"] is not None
    # What the server saw is a part of what the client waited; both clocks are the same.
    assert np.all(np.sort(samples.first_token_s - samples.sent_s) >= np.sort(ttft))
    assert measured["ttft"].p50 == pytest.approx(np.median(ttft) * 1e3, abs=10)
    assert measured["e2e"].p50 == pytest.approx(np.median(e2e) * 1e3, abs=10)
    assert samples.gap_weight.sum() == 40 * 7
    assert summary.request_rate <= summary.offered_request_rate == pytest.approx(100, rel=0.05)


def test_requests_keep_their_connections_and_prompts_differ(engine: Start) -> None:
    served = engine()
    run = run_load(configure(served, num_prompts=40))
    assert run.summary.completed == 40
    connections = {request.connection for request in served.load}
    assert len(connections) <= 4
    heads = [tuple(request.prompt.split()[:16]) for request in served.requests]
    assert len(set(heads)) == len(served.requests)
    body = served.load[0].body
    assert body["ignore_eos"] is True
    assert (body["min_tokens"], body["max_tokens"]) == (4, 4)
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("endpoint", ["/v1/completions", "/v1/chat/completions"])
def test_the_prompt_has_the_length_that_was_asked_for(engine: Start, endpoint: str) -> None:
    async def two_tokens_a_word(request: Request, writer: Writer) -> None:
        counted = 2 * len(request.prompt.split()) + 7
        writer.write(STREAM_HEAD)
        for _ in range(request.tokens):
            writer.write(chunk(text_event("x")))
        writer.write(chunk(usage_event(counted, request.tokens)) + chunk(DONE) + END)

    run = run_load(configure(engine(two_tokens_a_word), input_tokens=201, endpoint=endpoint))
    assert run.input_tokens_mean == 201
    assert not [note for note in run.summary.notes if "prompts had" in note]


def test_a_vocabulary_that_splits_words_is_met_on_average(engine: Start) -> None:
    async def some_words_are_three_tokens(request: Request, writer: Writer) -> None:
        counted = sum(3 if zlib.crc32(w.encode()) % 3 == 0 else 1 for w in request.prompt.split())
        writer.write(STREAM_HEAD)
        for _ in range(request.tokens):
            writer.write(chunk(text_event("x")))
        writer.write(chunk(usage_event(counted, request.tokens)) + chunk(DONE) + END)

    served = engine(some_words_are_three_tokens)
    means = [
        run_load(
            configure(served, input_tokens=128, num_prompts=60, seed=seed, salt="fixed")
        ).input_tokens_mean
        for seed in range(5)
    ]
    assert means == pytest.approx([128] * 5, rel=0.03)


def test_a_prompt_that_can_t_be_fitted_is_said(engine: Start) -> None:
    async def long_template(request: Request, writer: Writer) -> None:
        writer.write(STREAM_HEAD + chunk(text_event("x")))
        writer.write(chunk(usage_event(500, request.tokens)) + chunk(DONE) + END)

    run = run_load(configure(engine(long_template), input_tokens=16))
    assert run.input_tokens_mean == 500
    assert "prompts had 500.0 tokens on average; 16 were asked for" in run.summary.notes


def test_a_prompt_that_just_fits_is_found_from_a_first_one_that_does_not(engine: Start) -> None:
    async def three_tokens_a_word(request: Request, writer: Writer) -> None:
        counted = 3 * len(request.prompt.split())
        if counted > 310:
            writer.write(plain(400, {"error": {"message": "context length is 310"}}))
            return
        writer.write(STREAM_HEAD)
        for _ in range(request.tokens):
            writer.write(chunk(text_event("x")))
        writer.write(chunk(usage_event(counted, request.tokens)) + chunk(DONE) + END)

    run = run_load(configure(engine(three_tokens_a_word), input_tokens=300))
    assert (run.input_tokens_mean, run.summary.failed) == (300, 0)


def test_prompts_near_the_longest_that_the_server_takes_stay_below_it(engine: Start) -> None:
    longest = 1000

    async def uneven(request: Request, writer: Writer) -> None:
        counted = len(request.prompt.split()) + request.prompt.count("w") % 5
        if counted + request.tokens > longest:
            writer.write(plain(400, {"error": {"message": "context length"}}))
            return
        writer.write(STREAM_HEAD)
        for _ in range(request.tokens):
            writer.write(chunk(text_event("x")))
        writer.write(chunk(usage_event(counted, request.tokens)) + chunk(DONE) + END)

    run = run_load(configure(engine(uneven, longest=longest), input_tokens=996))
    assert run.summary.failed == 0
    assert run.input_tokens_mean == pytest.approx(996, rel=0.02)


def test_lengths_beyond_what_the_server_names_are_refused_before_any_request(
    engine: Start,
) -> None:
    served = engine(longest=40)
    assert run_load(configure(served, output_tokens=8)).summary.failed == 0
    before = len(served.requests)
    with pytest.raises(ProfilerUsageError, match="at most 40 for 'm'") as caught:
        run_load(configure(served, output_tokens=9))
    assert caught.value.code == "load.context_length"
    assert len(served.requests) == before


def test_one_seed_and_salt_make_one_load(engine: Start) -> None:
    def bodies(**changes: object) -> list[str]:
        served = engine()
        run_load(configure(served, **changes))
        return sorted(request.prompt for request in served.load)

    assert bodies(seed=1, salt="a") == bodies(seed=1, salt="a")
    others = [bodies(seed=1, salt="a"), bodies(seed=2, salt="a"), bodies(seed=1, salt="b")]
    assert len(set(map(tuple, others))) == 3


def test_a_server_s_prefix_cache_does_not_know_the_prompts_of_an_earlier_run(engine: Start) -> None:
    served = engine()
    for _ in range(2):
        run_load(configure(served, seed=1))
    assert len({request.prompt for request in served.requests}) == len(served.requests)


def test_a_shared_prefix_is_shared_and_the_rest_is_not(engine: Start) -> None:
    served = engine()
    run_load(configure(served, input_tokens=100, shared_prefix_tokens=50))
    words = [request.prompt.split() for request in served.load]
    assert len({tuple(w[:48]) for w in words}) == 1
    assert len({tuple(w[52:60]) for w in words}) == len(words)


# What a chunk is not.


def test_tokens_of_one_event_arrive_together(engine: Start) -> None:
    async def three_at_once(request: Request, writer: Writer) -> None:
        writer.write(STREAM_HEAD)
        for _ in range(2):
            await asyncio.sleep(0.02)
            writer.write(chunk(text_event("a b c")))
        writer.write(chunk(usage_event(32, 6)) + chunk(DONE) + END)

    run, _ = failing(engine, three_at_once, output_tokens=6)
    samples = run.samples
    assert list(samples.output_tokens) == [6, 6]
    assert samples.gap_weight.sum() == 2 * 5
    assert samples.gap_weight[samples.gap_s > 0].sum() == 2
    spans = samples.last_token_s - samples.first_token_s
    assert (samples.gap_s * samples.gap_weight).sum() == pytest.approx(spans.sum())
    assert any("3.0 tokens an event" in note for note in run.summary.notes)


def test_a_chat_s_role_is_not_its_first_token(engine: Start) -> None:
    def delta(finish: str | None = None, **fields: str) -> bytes:
        return chunk(event({"choices": [{"delta": fields, "finish_reason": finish}]}))

    async def chat(request: Request, writer: Writer) -> None:
        writer.write(STREAM_HEAD + delta(role="assistant", content=""))
        await writer.drain()
        await asyncio.sleep(0.05)
        request.sent_at.append(time.monotonic())
        for _ in range(request.tokens):
            writer.write(delta(content="x"))
        writer.write(delta("length") + chunk(usage_event(request.prompt_tokens, request.tokens)))
        writer.write(chunk(DONE) + END)

    served = engine(chat)
    run = run_load(configure(served, endpoint="/v1/chat/completions"))
    assert run.summary.completed == 12
    assert (run.samples.first_token_s - run.samples.sent_s).min() >= 0.05


def test_without_usage_events_are_counted_and_that_is_said(engine: Start) -> None:
    async def bare(request: Request, writer: Writer) -> None:
        writer.write(STREAM_HEAD)
        for _ in range(request.tokens):
            writer.write(chunk(text_event("x")))
        writer.write(chunk(DONE) + END)

    run = run_load(configure(engine(bare)))
    assert run.output_tokens_mean == 4
    assert any("without usage" in note for note in run.summary.notes)


async def until_closed(request: Request, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    for _ in range(request.tokens):
        writer.write(text_event("x").replace(b"\n", b"\r\n"))
    writer.write(usage_event(request.prompt_tokens, request.tokens) + DONE)
    await writer.drain()
    writer.close()


async def byte_by_byte(request: Request, writer: Writer) -> None:
    body = b"".join(chunk(text_event("x")) for _ in range(request.tokens))
    end = chunk(usage_event(request.prompt_tokens, request.tokens)) + chunk(DONE) + END
    for byte in STREAM_HEAD + body + end:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)


async def one_big_chunk(request: Request, writer: Writer) -> None:
    body = b"".join(text_event("x") for _ in range(request.tokens))
    end = usage_event(request.prompt_tokens, request.tokens) + DONE
    writer.write(STREAM_HEAD + chunk(body + end) + END)


async def and_close(request: Request, writer: Writer) -> None:
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    body = b"".join(chunk(text_event("x")) for _ in range(request.tokens))
    end = chunk(usage_event(request.prompt_tokens, request.tokens)) + chunk(DONE) + END
    writer.write(head + body + end)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("answer", [until_closed, byte_by_byte, one_big_chunk, and_close])
def test_framing_makes_no_difference(engine: Start, answer) -> None:
    run = run_load(configure(engine(answer)))
    assert run.summary.by_cause == {}
    assert run.summary.completed == 12
    assert run.output_tokens_mean == 4


def test_a_connection_that_the_server_closed_while_idle_costs_no_request(
    engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any idle time counts as long, so that the test need not wait.
    monkeypatch.setattr(pool, "_STALE_IDLE_S", -1.0)
    seen: set[int] = set()

    async def close_on_second(request: Request, writer: Writer) -> None:
        if request.connection in seen:
            writer.transport.abort()
            return
        seen.add(request.connection)
        await good(request, writer)

    run = run_load(configure(engine(close_on_second), max_concurrency=1, num_prompts=6))
    assert run.summary.completed == 6
    assert any("sent again, once" in note for note in run.summary.notes)


# Pace.


def test_a_closed_loop_keeps_its_concurrency(engine: Start) -> None:
    busy = peak = 0

    async def count(request: Request, writer: Writer) -> None:
        nonlocal busy, peak
        busy += 1
        peak = max(peak, busy)
        await asyncio.sleep(0.005)
        busy -= 1
        await good(request, writer)

    run = run_load(configure(engine(count), max_concurrency=3, num_prompts=30))
    assert peak == 3
    assert run.summary.completed == 30
    assert np.array_equal(run.samples.scheduled_s, run.samples.sent_s)


def test_what_a_cap_holds_back_is_late_and_said(engine: Start) -> None:
    async def slow(request: Request, writer: Writer) -> None:
        await asyncio.sleep(0.02)
        await good(request, writer)

    run = run_load(configure(engine(slow), request_rate=200, max_concurrency=1, num_prompts=20))
    assert run.summary.completed == 20
    late = run.samples.sent_s - run.samples.scheduled_s
    assert late[-1] > 0.1
    schedule, send = (run.summary.latency[n] for n in ("ttft_from_schedule", "ttft"))
    assert schedule is not None and send is not None
    assert schedule.p99 > send.p99 + 100
    assert any("waited for the cap of 1" in note for note in run.summary.notes)
    assert not run.summary.certified


def test_a_stop_ends_the_run_with_what_it_has(engine: Start) -> None:
    stop = threading.Event()
    answered = 0

    async def then_stop(request: Request, writer: Writer) -> None:
        nonlocal answered
        answered += 1
        if answered > 10:
            stop.set()
            await asyncio.sleep(60)
        await good(request, writer)

    started = time.monotonic()
    run = run_load(
        configure(engine(after_probe(then_stop)), num_prompts=None, duration_s=300.0), stop=stop
    )
    assert time.monotonic() - started < 60
    assert not run.complete
    assert run.summary.completed == len(run.samples) == 10
    assert run.summary.failed == 0
    assert any("in flight are left out" in note for note in run.summary.notes)


def test_a_stop_before_the_load_gives_an_empty_partial_run(engine: Start) -> None:
    stop = threading.Event()
    stop.set()
    run = run_load(configure(engine()), stop=stop)
    assert not run.complete
    assert run.summary.completed == 0


def test_progress_is_told(engine: Start) -> None:
    async def slow(request: Request, writer: Writer) -> None:
        await asyncio.sleep(0.01)
        await good(request, writer)

    told: list[Progress] = []
    config = configure(engine(slow), request_rate=40, max_concurrency=None, num_prompts=40)
    run_load(config, on_progress=told.append)
    assert told
    assert all(p.total == 40 and p.sent >= p.completed for p in told)


def test_the_client_says_when_it_was_the_bottleneck(engine: Start) -> None:
    served = engine()

    def hog(progress: Progress) -> None:
        time.sleep(0.2)

    run = run_load(
        configure(served, request_rate=100, max_concurrency=None, num_prompts=100),
        on_progress=hog,
    )
    assert run.summary.client.bottleneck is not None
    assert not run.summary.certified


def test_a_client_without_free_sockets_blames_itself(
    engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_socket(self: pool.Pool, family: int, ip: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def then_close(request: Request, writer: Writer) -> None:
        monkeypatch.setattr(pool.Pool, "_connect_to", no_socket)
        await and_close(request, writer)

    run, _ = failing(engine, then_close, max_concurrency=1, num_prompts=3)
    lost = 3 - run.summary.completed
    assert lost > 0
    assert run.summary.by_cause == {"client_sockets": lost}
    assert f"{lost} requests found no free socket" in str(run.summary.client.bottleneck)
    assert not run.summary.certified


def test_a_simulator_is_called_one(engine: Start) -> None:
    served = engine(owner="some-simulator")
    assert "the engine is a simulator" in run_load(configure(served)).summary.notes


def test_long_answers_are_parsed_while_they_come(
    engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_MUCH_RAW_BYTES", 1000)
    held: list[int] = []

    async def paced(request: Request, writer: Writer) -> None:
        writer.write(STREAM_HEAD)
        for _ in range(request.tokens):
            writer.write(chunk(text_event("x")))
            await asyncio.sleep(0.001)
        writer.write(chunk(usage_event(request.prompt_tokens, request.tokens)) + chunk(DONE) + END)

    def look(exchange: Exchange, most: int | None = None) -> bool:
        held.append(len(exchange.reads))
        return parse(exchange, most)

    parse = Exchange.parse
    monkeypatch.setattr(Exchange, "parse", look)
    run = run_load(configure(engine(paced), output_tokens=500, num_prompts=4))
    assert run.output_tokens_mean == 500
    assert run.chunks == 4 * 500
    assert max(held) < 450


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, key and all in one file."""
    folder = tmp_path_factory.mktemp("tls")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    whole = folder / "whole.pem"
    whole.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return whole


def test_tls_with_a_known_certificate(engine: Start, certificate: Path) -> None:
    served = engine(certificate=certificate)
    assert served.url.startswith("https")
    assert run_load(configure(served, ca_file=str(certificate))).summary.completed == 12
    assert run_load(configure(served, insecure=True)).summary.completed == 12


def test_tls_with_an_unknown_certificate(engine: Start, certificate: Path) -> None:
    with pytest.raises(EngineUnreachableError, match="its certificate is not trusted"):
        run_load(configure(engine(certificate=certificate)))
