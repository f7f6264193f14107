"""A real HTTP engine on a real socket that answers as a test scripts it."""

import asyncio
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def text_event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return event({"id": "c", "object": "text_completion", "choices": [choice]})


def usage_event(prompt: int, completion: int) -> bytes:
    return event(
        {
            "id": "c",
            "choices": [],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
        }
    )


DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


@dataclass
class Request:
    """A POST that the engine got."""

    body: dict[str, Any]
    received_at: float
    connection: int
    sent_at: list[float] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return int(self.body["max_tokens"])

    @property
    def prompt(self) -> str:
        if "prompt" in self.body:
            return str(self.body["prompt"])
        return str(self.body["messages"][0]["content"])

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt.split()) + 1

    @property
    def is_probe(self) -> bool:
        return self.tokens == 1


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


async def good(request: Request, writer: asyncio.StreamWriter) -> None:
    """Stream one token an event, then usage and [DONE]."""
    writer.write(STREAM_HEAD)
    for number in range(request.tokens):
        request.sent_at.append(time.monotonic())
        finish = "length" if number == request.tokens - 1 else None
        writer.write(chunk(text_event(f" w{number}", finish)))
        await writer.drain()
    writer.write(chunk(usage_event(request.prompt_tokens, request.tokens)) + chunk(DONE) + END)


def plain(status: int, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(data), data)


def after_probe(answer: Answer) -> Answer:
    """Answer the calibration well, and the load as given."""

    async def either(request: Request, writer: asyncio.StreamWriter) -> None:
        await (good if request.is_probe else answer)(request, writer)

    return either


class Engine:
    """Serves in a thread of its own until closed."""

    def __init__(
        self,
        answer: Answer,
        models: tuple[str, ...] = ("m",),
        token: str | None = None,
        owner: str = "scripted",
        certificate: Path | None = None,
        not_ready_times: int = 0,
        longest: int | None = None,
    ):
        self.requests: list[Request] = []
        self.connections = 0
        self._answer = answer
        self._models = models
        self._token = token
        self._owner = owner
        self._certificate = certificate
        self._not_ready_times = not_ready_times
        self._longest = longest
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._started.wait(10)

    @property
    def load(self) -> list[Request]:
        """Requests of the load, without the calibration's."""
        return [request for request in self.requests if not request.is_probe]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        tls = None
        if self._certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self._certificate)
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=512, ssl=tls)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        # What was just accepted becomes a connection, which a closed server would refuse to know,
        # and every connection ends before the loop.
        for listening in server.sockets:
            self._loop.remove_reader(listening)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for writer in self._writers:
                writer.transport.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(others, timeout=1)
        server.close()
        await server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; plain, so that none is made that the end does not know."""
        self._writers.add(writer)
        self.connections += 1
        task = self._loop.create_task(self._talk(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._one(reader, writer, number):
                    pass
        finally:
            writer.transport.abort()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if self._token and headers.get("authorization") != f"Bearer {self._token}":
            writer.write(plain(401, {"error": {"message": "bad key"}}))
        elif self._not_ready_times:
            self._not_ready_times -= 1
            writer.write(plain(503, {"error": {"message": "loading"}}))
        elif first.startswith("GET /v1/models"):
            more = {"owned_by": self._owner, "max_model_len": self._longest}
            data = [{"id": name, **more} for name in self._models]
            writer.write(plain(200, {"data": data}))
        elif first.startswith("GET /version"):
            writer.write(plain(200, {"version": "1.2"}))
        else:
            request = Request(json.loads(body), time.monotonic(), number)
            self.requests.append(request)
            await self._answer(request, writer)
        await writer.drain()
        return not writer.is_closing()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def engine() -> Iterator[Callable[..., Engine]]:
    """Start engines that are closed at the end: ``engine(answer, models=…, token=…)``."""
    running: list[Engine] = []

    def start(answer: Answer = good, **options: Any) -> Engine:
        running.append(Engine(answer, **options))
        return running[-1]

    yield start
    for one in running:
        one.close()
