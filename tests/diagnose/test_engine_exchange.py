import socket
import ssl
import threading
import time

import pytest

from diagnose.engine.exchange import exchange, parse_address
from diagnose.errors import DiagnoseUsageError, StoppedError
from tests.diagnose.scripted import raw, scripted


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:8000", "http://host:8000"),
        ("http://host/v1/", "http://host:80"),
        ("https://host/models/a/v1", "https://host:443/models/a"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, expected: str) -> None:
    assert parse_address(url).url == expected


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host", "http://", "http://u:p@host", "http://h?q", "http://h:x"]
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(DiagnoseUsageError, match="URL"):
        parse_address(url)


def test_a_file_that_holds_no_certificate_is_refused(tmp_path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(DiagnoseUsageError, match="cannot use"):
        parse_address("https://host", ca_file=str(path))


def test_an_answer_comes_whole() -> None:
    with scripted(lambda method, path: (200, f"{method} {path}")) as url:
        answer = exchange(parse_address(url), "GET", "/metrics", 5)
    assert (answer.ok, answer.body, answer.trouble) == (True, b"GET /metrics", None)


def trickle_body(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.wait(0.02):
        connection.sendall(b"x")


def trickle_head(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not over.wait(0.02):
        connection.sendall(b"x")


def silence(connection: socket.socket, over: threading.Event) -> None:
    over.wait(30)


@pytest.mark.parametrize("talk", [trickle_body, trickle_head, silence])
def test_a_server_that_never_ends_its_answer_is_left_at_the_deadline(talk) -> None:
    with raw(talk) as url:
        before = time.monotonic()
        answer = exchange(parse_address(url), "GET", "/health", 0.4)
        assert time.monotonic() - before < 2
    assert answer.trouble == "timeout"
    assert not answer.ok


def test_what_came_before_the_deadline_is_kept() -> None:
    with raw(trickle_body) as url:
        answer = exchange(parse_address(url), "GET", "/health", 0.4)
    assert answer.status == 200
    assert set(answer.body) == {ord("x")}


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\nhalf"])
def test_the_connection_is_cut_at_the_deadline(head: bytes) -> None:
    gone = threading.Event()

    def wait_for_the_end(connection: socket.socket, over: threading.Event) -> None:
        connection.settimeout(20)
        connection.sendall(head)
        while connection.recv(65536):
            pass
        gone.set()

    with raw(wait_for_the_end) as url:
        exchange(parse_address(url), "GET", "/", 0.2)
        assert gone.wait(20)


def no_http(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-OpenSSH\r\n")


def hang_up(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)


def cut_short(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")


def cut_chunks_short(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf")


@pytest.mark.parametrize("talk", [no_http, hang_up, cut_short, cut_chunks_short])
def test_what_is_no_whole_http_answer_is_broken(talk) -> None:
    with raw(talk) as url:
        assert exchange(parse_address(url), "GET", "/", 5).trouble == "broken"


def test_nobody_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answer = exchange(parse_address(f"http://127.0.0.1:{port}"), "GET", "/", 5)
    assert (answer.trouble, answer.text) == ("unreachable", "Connection refused")


def test_a_server_without_tls_is_unreachable_over_https() -> None:
    with scripted(lambda method, path: (200, "")) as url:
        address = parse_address(url.replace("http", "https"))
        assert isinstance(address.tls, ssl.SSLContext)
        assert exchange(address, "GET", "/", 5).trouble == "unreachable"


def test_a_stop_cuts_the_waiting_for_a_server_that_does_not_answer() -> None:
    stop = threading.Event()
    with scripted(lambda method, path: None) as url:
        threading.Timer(0.2, stop.set).start()
        started_s = time.monotonic()
        with pytest.raises(StoppedError):
            exchange(parse_address(url), "GET", "/health", 60, stop=stop)
    assert time.monotonic() - started_s < 10


def test_an_answer_that_comes_soon_after_a_stop_is_taken() -> None:
    stop = threading.Event()
    stop.set()
    with scripted(lambda method, path: (200, "fine")) as url:
        assert exchange(parse_address(url), "GET", "/health", 60, stop=stop).ok
