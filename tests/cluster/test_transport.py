"""Which refusals are tried again, how soon, and what is never sent twice."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from cluster.access import Access, connect
from cluster.errors import ClusterError
from cluster.transport import Deed, Limits

Answer = tuple[int, dict[str, str]]


@dataclass
class Served:
    """An HTTP server that gives these answers in turn, the last one ever after.

    Attributes:
        kubeconfig: leads to it.
        asked: method and ``time.monotonic`` of each request.
    """

    kubeconfig: str
    asked: list[tuple[str, float]] = field(default_factory=list)


@contextmanager
def serving(folder: Path, *answers: Answer) -> Iterator[Served]:
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            served.asked.append((self.command, time.monotonic()))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def do_PATCH(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        file = folder / "kubeconfig"
        config = {
            "clusters": [
                {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
            ],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file.write_text(yaml.safe_dump(config))
        served = Served(str(file))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


OK: Answer = (200, {})
LIMITS = Limits(first_s=5.0, retry_s=5.0)


def ask(served: Served, method: str = "GET", limits: Limits = LIMITS) -> None:
    with connect(Access(served.kubeconfig), limits) as api:
        body = None if method == "GET" else {}
        api.transport.request(Deed("try", "things"), method, "/things", body=body)


def test_waits_as_long_as_the_server_asks(tmp_path: Path) -> None:
    with serving(tmp_path, (429, {"Retry-After": "1"}), OK) as served:
        ask(served, "POST")  # A 429 was not carried out.
    (_, first), (_, second) = served.asked
    assert second - first >= 1.0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_what_can_be_repeated_is(tmp_path: Path, method: str, status: int) -> None:
    with serving(tmp_path, (status, {}), (status, {}), OK) as served:
        ask(served, method)
    assert [asked for asked, _ in served.asked] == [method] * 3


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_creation_that_may_have_come_through_is_not_sent_twice(
    tmp_path: Path, status: int
) -> None:
    with (
        serving(tmp_path, (status, {}), OK) as served,
        pytest.raises(ClusterError, match=f"the API server answers {status}"),
    ):
        ask(served, "POST")
    assert len(served.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_refusal_is_final(tmp_path: Path, status: int) -> None:
    with serving(tmp_path, (status, {}), OK) as served, pytest.raises(ClusterError):
        ask(served)
    assert len(served.asked) == 1


def test_patience_ends(tmp_path: Path) -> None:
    began = time.monotonic()
    with serving(tmp_path, (503, {})) as served, pytest.raises(ClusterError, match="503"):
        ask(served, limits=Limits(first_s=0.5, retry_s=0.5))
    assert len(served.asked) > 1
    assert time.monotonic() - began < 3


def test_patience_ends_soon_once_somebody_waits(tmp_path: Path) -> None:
    stop, began = threading.Event(), time.monotonic()
    threading.Timer(0.5, stop.set).start()
    with serving(tmp_path, (503, {})) as served, connect(Access(served.kubeconfig)) as api:
        api.transport.heed(stop)
        with pytest.raises(ClusterError, match="503"):
            api.transport.request(Deed("try", "things"), "GET", "/things")
    assert 0.5 < time.monotonic() - began < 10
