"""A simulated engine as a real HTTP server: vLLM's API and metrics, the simulator's times."""

import asyncio
import contextlib
import hmac
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from profiler.errors import ProfilerError, ProfilerUsageError
from profiler.sim.api import Answer, ApiError, parse_ask, parse_tokenize
from profiler.sim.engine import Engine, Request
from profiler.sim.faults import Fault, Faults
from profiler.sim.http1 import Connection, HttpRequest
from profiler.sim.realtime import RealTimeEngine
from profiler.sim.replica import Replica

OWNER = "aibrixctl-simulator"
_STOP_POLL_S = 0.05


@dataclass(frozen=True)
class ServerConfig:
    """What to serve and where.

    Attributes:
        replica: what is simulated.
        model: name that clients use.
        host, port: where to listen; port 0 takes a free one.
        speed: how many times faster than real.
        seed: of the lengths of texts that end by themselves, and of faults that are drawn.
        api_key: bearer token that /v1 asks for; None for none.
        version: reported by /version.
        prefix_cache_hit_rate: share of every prompt that the prefix cache holds.
        faults: what is wrong with it, and when.
    """

    replica: Replica
    model: str
    host: str = "127.0.0.1"
    port: int = 0
    speed: float = 1.0
    seed: int = 0
    api_key: str | None = None
    version: str = "0"
    prefix_cache_hit_rate: float = 0.0
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Served:
    """What a server did until it was stopped."""

    requests: int
    aborted: int
    prompt_tokens: int
    generation_tokens: int
    preemptions: int
    worst_late_s: float


def serve(
    config: ServerConfig, stop: threading.Event, on_ready: Callable[[str], None] | None = None
) -> Served:
    """Serve until ``stop`` is set; requests still under way are cut.

    Args:
        config: what to serve and where.
        stop: set by whoever wants the server to end.
        on_ready: called with the base URL once connections are accepted.

    Raises:
        ProfilerUsageError: a speed that is not above 0.
        ProfilerError: the address can't be listened on.
    """
    import uvloop

    if not 0 < config.speed <= 1e6:
        raise ProfilerUsageError("sim.speed", f"speed is {config.speed}; expected more than 0")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, stop, on_ready))


async def _serve(
    config: ServerConfig, stop: threading.Event, on_ready: Callable[[str], None] | None
) -> Served:
    app = SimulatedServer(config, asyncio.get_running_loop())
    listener = await _listen(app, config)
    try:
        if on_ready is not None:
            on_ready(_url(listener.sockets[0]))
        # A signal handler sets the flag, which no loop can await.
        while not stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(_STOP_POLL_S)
    finally:
        listener.close()
        app.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listener.wait_closed(), 1)
    return app.served()


async def _listen(app: "SimulatedServer", config: ServerConfig) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            app.connection, config.host, config.port, backlog=4096
        )
    except OSError as error:
        where = f"{config.host}:{config.port}"
        raise ProfilerError(
            "sim.listen",
            f"cannot listen on {where}: {error.strerror or error}",
            hint="choose another --port, or 0 for a free one",
            target=where,
        ) from error


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class SimulatedServer:
    """Routes requests to the engine, and its tokens to their connections."""

    def __init__(self, config: ServerConfig, loop: asyncio.AbstractEventLoop):
        self.config = config
        # Rates measured on a server in a hurry are too high by as much: its name says so.
        self.owner = OWNER if config.speed == 1 else f"{OWNER}-{config.speed:g}x-speed"
        self.faults = Faults(config.faults, config.seed)
        self.live = RealTimeEngine(Engine(config.replica), config.speed, loop, self.faults)
        self._draw = random.Random(config.seed)
        self._count = 0
        self._connections: set[Connection] = set()
        self._started = int(time.time())
        self._routes: dict[str, tuple[str, Callable[[HttpRequest, Connection], None]]] = {
            "/v1/completions": ("POST", self._complete),
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/models": ("GET", self._models),
            "/tokenize": ("POST", self._tokenize),
            "/health": ("GET", self._health),
            "/ping": ("GET", self._health),
            "/version": ("GET", self._version),
            "/metrics": ("GET", self._metrics),
        }

    def connection(self) -> Connection:
        """Return the protocol of a new client."""
        return Connection(self.handle, self._connections)

    def close(self) -> None:
        """Cut every connection and stop the engine."""
        self.live.close()
        for connection in list(self._connections):
            connection.abort()

    def served(self) -> Served:
        """Return what was done so far."""
        metrics = self.live.metrics
        return Served(
            requests=metrics.success["length"] + metrics.success["stop"],
            aborted=metrics.success["abort"] + self.live.live,
            prompt_tokens=metrics.prompt_tokens,
            generation_tokens=metrics.generation_tokens,
            preemptions=self.live.engine.preemptions,
            worst_late_s=metrics.worst_late_s,
        )

    def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Answer one request, now or token by token."""
        route = self._routes.get(request.path)
        if route is None:
            connection.respond(404, {"detail": "Not Found"})
        elif request.method != route[0]:
            connection.respond(405, {"detail": "Method Not Allowed"})
        elif request.path.startswith("/v1/") and not self._allowed(request):
            connection.respond(401, {"error": "Unauthorized"})
        else:
            try:
                route[1](request, connection)
            except ApiError as error:
                connection.respond(error.status, error.to_json())

    def _allowed(self, request: HttpRequest) -> bool:
        if self.config.api_key is None:
            return True
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.config.api_key}".encode())

    def _complete(self, request: HttpRequest, connection: Connection) -> None:
        self._generate(request, connection, chat=False)

    def _chat(self, request: HttpRequest, connection: Connection) -> None:
        self._generate(request, connection, chat=True)

    def _generate(self, request: HttpRequest, connection: Connection, *, chat: bool) -> None:
        ask = parse_ask(
            request.body,
            chat=chat,
            model=self.config.model,
            longest=self.live.engine.longest,
            draw=self._draw,
        )
        if self.faults.strikes("errors"):
            self.live.metrics.success["error"] += 1
            raise ApiError("a simulated fault", status=500, kind="InternalServerError")
        if ask.stream and not connection.start_stream():
            return
        self._count += 1
        cached = int(ask.input_tokens * self._cache_hit_rate())
        work = Request(self._count, ask.input_tokens, ask.output_tokens, cached)
        connection.on_lost = lambda: self.live.abort(work)
        self.live.submit(work, Answer(ask, self.config.model, connection), ask.reason)

    def _cache_hit_rate(self) -> float:
        collapsed = self.faults.value("cache-collapse") is not None
        return 0.0 if collapsed else self.config.prefix_cache_hit_rate

    def _models(self, request: HttpRequest, connection: Connection) -> None:
        model = {
            "id": self.config.model,
            "object": "model",
            "created": self._started,
            "owned_by": self.owner,
            "root": self.config.model,
            "parent": None,
            "max_model_len": self.live.engine.longest,
        }
        connection.respond(200, {"object": "list", "data": [model]})

    def _tokenize(self, request: HttpRequest, connection: Connection) -> None:
        count = parse_tokenize(request.body, self.config.model)
        connection.respond(200, {"count": count, "max_model_len": self.live.engine.longest})

    def _health(self, request: HttpRequest, connection: Connection) -> None:
        connection.respond(200 if self.faults.value("unhealthy") is None else 503, b"")

    def _version(self, request: HttpRequest, connection: Connection) -> None:
        connection.respond(200, {"version": self.config.version, "engine": self.owner})

    def _metrics(self, request: HttpRequest, connection: Connection) -> None:
        engine, replica = self.live.engine, self.config.replica
        text = self.live.metrics.text(
            model=self.config.model,
            running=engine.running,
            waiting=engine.waiting,
            kv_usage=engine.kv_cache_usage,
            preemptions=engine.preemptions,
            about={
                "accelerator": replica.accelerator.name,
                "gpus": str(replica.gpus),
                "speed": f"{self.config.speed:g}",
                "version": self.config.version,
            },
            faults=self.faults.states(),
        )
        connection.respond(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")
