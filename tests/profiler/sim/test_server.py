import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from profiler.errors import ProfilerError
from profiler.sim.server import ServerConfig, serve
from tests.profiler.sim.served import MODEL, REPLICA, Server, body, running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as made:
        yield made


def events(raw: bytes) -> list:
    lines = [line for line in raw.decode().split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_stream_has_a_chunk_for_each_token_then_the_usage(server: Server) -> None:
    status, raw = server.ask(
        "POST", "/v1/completions", body(stream=True, stream_options={"include_usage": True})
    )
    assert status == 200
    *tokens, usage = events(raw)
    assert len(tokens) == 9
    assert all(token["choices"][0]["text"] for token in tokens)
    reasons = [token["choices"][0]["finish_reason"] for token in tokens]
    assert reasons == [None] * 8 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
    assert len({event["id"] for event in [*tokens, usage]}) == 1


def test_a_chat_stream_opens_with_the_role(server: Server) -> None:
    asked = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "one two three"}],
        "ignore_eos": True,
        "max_completion_tokens": 5,
        "stream": True,
    }
    status, raw = server.ask("POST", "/v1/chat/completions", asked)
    first, *rest = events(raw)
    assert (status, first["object"]) == (200, "chat.completion.chunk")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(rest) == 5
    assert all(token["choices"][0]["delta"]["content"] for token in rest)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_an_answer_in_one_piece_has_text_of_as_many_tokens(server: Server, path: str) -> None:
    asked = body(messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}])
    status, raw = server.ask("POST", path, asked)
    answer = json.loads(raw)
    choice = answer["choices"][0]
    text = choice["message"]["content"] if "chat" in path else choice["text"]
    assert (status, answer["usage"]["completion_tokens"]) == (200, 9)
    _, counted = server.ask("POST", "/tokenize", {"model": MODEL, "prompt": text})
    assert json.loads(counted)["count"] == 9


def test_token_ids_are_counted_as_they_are(server: Server) -> None:
    _, raw = server.ask("POST", "/v1/completions", body(prompt=[5] * 77))
    assert json.loads(raw)["usage"]["prompt_tokens"] == 77


def test_without_ignore_eos_a_text_may_end_early_and_the_seed_fixes_where(server: Server) -> None:
    lengths, reasons = [], []
    for seed in (1, 2, 3, 3):
        _, raw = server.ask(
            "POST", "/v1/completions", body(ignore_eos=False, max_tokens=2000, seed=seed)
        )
        answer = json.loads(raw)
        lengths.append(answer["usage"]["completion_tokens"])
        reasons.append(answer["choices"][0]["finish_reason"])
    assert len(set(lengths)) == 3
    assert lengths[2] == lengths[3]
    assert "stop" in reasons


def test_min_tokens_keeps_a_text_from_ending(server: Server) -> None:
    asked = body(ignore_eos=False, max_tokens=1500, min_tokens=1500)
    _, raw = server.ask("POST", "/v1/completions", asked)
    assert json.loads(raw)["usage"]["completion_tokens"] == 1500


def test_an_answer_is_cut_to_what_the_prompt_leaves(server: Server) -> None:
    _, raw = server.ask("POST", "/v1/completions", body(prompt=[1] * 4090))
    assert json.loads(raw)["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(
    ("asked", "status", "named"),
    [
        (body(model="other"), 404, "`other` does not exist"),
        (body(max_tokens=4097), 400, "cannot be greater than max_model_len=4096"),
        (body(min_tokens=10), 400, "less than or equal to max_tokens=9, got 10"),
        (body(prompt=[1] * 4090, min_tokens=9), 400, "max_tokens=6, got 9"),
        (body(prompt=[1] * 4096), 400, "max_tokens must be at least 1, got 0"),
        (body(prompt=[1] * 5000), 400, "maximum context length is 4096 tokens"),
        (body(max_tokens=0), 400, "max_tokens is 0"),
        (body(max_tokens="9"), 400, "max_tokens is '9'"),
        (body(min_tokens=-1), 400, "min_tokens is -1"),
        (body(prompt=None), 400, "prompt is missing"),
        (body(prompt=["a", "b"]), 400, "takes one prompt"),
        (body(n=2), 400, "n is 2"),
        (body(stream="yes"), 400, "stream is 'yes'"),
        (b"{not json", 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
    ],
)
def test_errors_are_vllms_json(server: Server, asked, status: int, named: str) -> None:
    found, raw = server.ask("POST", "/v1/completions", asked)
    error = json.loads(raw)["error"]
    assert (found, error["code"]) == (status, status)
    assert named in error["message"]


def test_chat_without_messages_is_refused(server: Server) -> None:
    status, raw = server.ask("POST", "/v1/chat/completions", {"model": MODEL, "messages": []})
    assert (status, json.loads(raw)["error"]["param"]) == (400, "messages")


def test_the_other_endpoints_say_that_this_is_a_simulator(server: Server) -> None:
    _, models = server.ask("GET", "/v1/models")
    (model,) = json.loads(models)["data"]
    assert (model["id"], model["owned_by"]) == (MODEL, "aibrixctl-simulator-100x-speed")
    assert model["max_model_len"] == 4096
    assert server.ask("GET", "/health") == (200, b"")
    _, version = server.ask("GET", "/version")
    assert json.loads(version)["engine"] == "aibrixctl-simulator-100x-speed"
    assert server.metric("aibrixctl_simulator_info") == 1


def test_unknown_paths_and_methods(server: Server) -> None:
    assert server.ask("GET", "/nowhere")[0] == 404
    assert server.ask("GET", "/v1/completions")[0] == 405


def test_metrics_count_what_was_served_and_buckets_are_cumulative() -> None:
    with running() as own:
        for _ in range(3):
            own.ask("POST", "/v1/completions", body(prompt=[1] * 40))
        assert own.metric("vllm:prompt_tokens_total") == 120
        assert own.metric("vllm:generation_tokens_total") == 27
        assert own.metric("vllm:time_to_first_token_seconds_count") == 3
        assert own.metric("vllm:inter_token_latency_seconds_count") == 24
        assert own.metric("vllm:e2e_request_latency_seconds_count") == 3
        assert own.metric("vllm:kv_cache_usage_perc") == 0
        text = own.ask("GET", "/metrics")[1].decode()
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            names.add(line.split()[2])
        elif not line.startswith("#"):
            assert re.fullmatch(r"[a-zA-Z_:][\w:]*\{.*\} [-+.\deinfINF]+", line), line
    assert {"vllm:num_requests_running", "vllm:num_requests_waiting"} <= names
    assert {"vllm:num_preemptions_total", "vllm:request_queue_time_seconds"} <= names
    buckets = re.findall(r'inter_token_latency_seconds_bucket\{le="([^"]+)".*\} (\d+)', text)
    counts = [int(count) for _, count in buckets]
    assert counts == sorted(counts)
    assert buckets[-1] == ("+Inf", "24")


def test_an_api_key_is_asked_for_under_v1_only() -> None:
    with running(api_key="secret") as own:
        assert own.ask("POST", "/v1/completions", body())[0] == 401
        wrong = {"Authorization": "Bearer other"}
        assert own.ask("GET", "/v1/models", headers=wrong)[0] == 401
        right = {"Authorization": "Bearer secret"}
        assert own.ask("POST", "/v1/completions", body(), right)[0] == 200
        assert own.ask("GET", "/health")[0] == 200


def test_a_client_that_leaves_frees_its_blocks() -> None:
    with running(speed=1) as own:
        payload = json.dumps(body(stream=True, max_tokens=4000)).encode()
        with socket.create_connection(own.address, timeout=20) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                % len(payload)
                + payload
            )
            while b"data: " not in client.recv(65536):
                pass
            assert own.metric("vllm:num_requests_running") == 1
            assert own.metric("vllm:kv_cache_usage_perc") > 0
        own.wait_for("vllm:num_requests_running", 0)
        assert own.metric("vllm:kv_cache_usage_perc") == 0
        assert own.close().aborted == 1


def test_a_connection_serves_many_requests_also_sent_at_once(server: Server) -> None:
    payload = json.dumps(body(max_tokens=2)).encode()
    one = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(payload), payload)
    health = b"GET /health HTTP/1.1\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(one + health * 2000 + one + last)
        received = b""
        while piece := client.recv(1 << 20):
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 2003


def raw_exchange(server: Server, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    received = b""
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(sent)
        while piece := client.recv(1 << 20):
            received += piece
    return received


def test_http_1_0_gets_whole_answers_but_no_stream(server: Server) -> None:
    assert raw_exchange(server, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    payload = json.dumps(body(stream=True)).encode()
    head = b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(payload)
    assert raw_exchange(server, head + payload).startswith(b"HTTP/1.1 505")


def test_a_client_that_waits_to_be_told_to_continue_is_told(server: Server) -> None:
    payload = json.dumps(body()).encode()
    head = (
        b"POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n" % len(payload)
    )
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(head)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(payload)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_chunked_body_in_single_bytes_is_read(server: Server) -> None:
    payload = json.dumps(body()).encode()
    framed = b"".join(b"%x\r\n%b\r\n" % (1, payload[i : i + 1]) for i in range(len(payload)))
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n"
        )
        for start in range(0, len(framed), 7):
            client.sendall(framed[start : start + 7])
        client.sendall(b"0\r\n\r\n")
        received = b""
        while piece := client.recv(1 << 20):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b'"completion_tokens":9' in received.replace(b" ", b"")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nbroken\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000, b"431"),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_bytes_that_are_no_request_are_answered_and_the_connection_closed(
    server: Server, raw: bytes, status: bytes
) -> None:
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(raw)
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert received.split()[1] == status


def test_many_streams_at_once_all_complete(server: Server) -> None:
    answers: list[tuple[int, bytes]] = []

    def one() -> None:
        answers.append(
            server.ask("POST", "/v1/completions", body(prompt=[1] * 64, max_tokens=40, stream=True))
        )

    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 50
    assert all(len(events(raw)) == 40 for _, raw in answers)


def test_times_are_those_of_the_model_divided_by_the_speed() -> None:
    """A long answer takes its virtual time over the speed, whatever single wake-ups do."""
    from profiler.sim.run import simulate

    samples = simulate(REPLICA, [0.0], [100], [400])
    with running(speed=10) as own:
        begin = time.monotonic()
        own.ask("POST", "/v1/completions", body(prompt=[1] * 100, max_tokens=400))
        took = time.monotonic() - begin
    assert took >= samples.last_token_s[0] / 10


def test_an_address_in_use_is_named(server: Server) -> None:
    with pytest.raises(ProfilerError, match=r"cannot listen on 127\.0\.0\.1"):
        serve(ServerConfig(REPLICA, MODEL, port=server.address[1]), threading.Event())


def test_what_was_served_is_reported_at_the_end() -> None:
    own = Server()
    own.ask("POST", "/v1/completions", body())
    report = own.close()
    assert (report.requests, report.aborted, report.generation_tokens) == (1, 0, 9)
