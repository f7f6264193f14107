"""Subscribe to an engine's KV events, notice what was missed, and ask for it again.

The engine publishes on a ZMQ PUB socket: topic, sequence number (8 bytes, big endian), batch. A
ROUTER beside it sends the batches from a number on that it still has, and then the number -1.
Source: vLLM's ``distributed/kv_events.py``.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvpool.errors import KvPoolError, KvPoolUsageError, PoolUnreachableError
from kvpool.events.codec import Batch, decode

if TYPE_CHECKING:
    import zmq

_ENDPOINT = re.compile(r"^(tcp://(?:\[[^\]]+\]|[^\s:/*]+):(\d{1,5})|ipc://.+)$")
_END = (-1).to_bytes(8, "big", signed=True)
_QUEUE_MESSAGES = 100_000
_LOOK_MS = 100
_MOST_GAPS = 1000
_REPLAY_SILENCE_S = 5.0
_START_HINT = (
    "start vLLM with --kv-events-config "
    '\'{"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "tcp://*:5557", '
    '"replay_endpoint": "tcp://*:5558"}\''
)


@dataclass(frozen=True)
class Received:
    """A batch, in the engine's order.

    Attributes:
        sequence: its number.
        batch: its events.
        replayed: whether it came by replay.
        fresh: whether the engine has started anew just before; its cache was empty then.
    """

    sequence: int
    batch: Batch
    replayed: bool = False
    fresh: bool = False


@dataclass
class Gap:
    """Batches that did not arrive by themselves.

    Attributes:
        first, last: their numbers.
        recovered: how many of them came by replay.
    """

    first: int
    last: int
    recovered: int = 0

    @property
    def lost(self) -> int:
        """Number of batches that never came."""
        return self.last - self.first + 1 - self.recovered


@dataclass
class Health:
    """What happened to a subscription.

    Attributes:
        joined_at: number of the first batch that came; above 0 the cache held blocks before.
        last: number of the last batch.
        batches: that came, replayed ones included.
        replayed: that came by replay.
        gaps: the first thousand in the numbers, in the middle of the stream.
        lost: batches that are missing for good.
        restarts: of the engine.
        disconnects: of the connection.
        malformed: messages that are no batch.
        notes: what could not be done.
    """

    joined_at: int | None = None
    last: int | None = None
    batches: int = 0
    replayed: int = 0
    gaps: list[Gap] = field(default_factory=list)
    lost: int = 0
    restarts: int = 0
    disconnects: int = 0
    malformed: int = 0
    notes: list[str] = field(default_factory=list)


def check_endpoint(text: str) -> str:
    """Return an address to connect to.

    Raises:
        KvPoolUsageError: no ``tcp://HOST:PORT`` nor ``ipc://PATH``.
    """
    found = _ENDPOINT.match(text)
    if found is None or (found[2] and not 0 < int(found[2]) < 65536):
        hint = "give the engine's host in place of *" if "*" in text else ""
        raise KvPoolUsageError(
            "kv.events.endpoint",
            f"{text!r} is no address of events; expected tcp://HOST:PORT, e.g. tcp://vllm-0:5557",
            hint=hint,
            target=text,
        )
    return text


class EventStream:
    """A subscription; use as a context manager, and iterate once over ``batches``.

    Attributes:
        health: what happened so far.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        replay: str | None = None,
        topic: str = "",
        connect_timeout_s: float = 10.0,
        stop: Callable[[], bool] = lambda: False,
    ):
        """Connect in the background.

        Args:
            endpoint: where the engine publishes.
            replay: where it sends batches again; None where nowhere.
            topic: beginning of the topics to listen to.
            connect_timeout_s: for the first connection.
            stop: asked ten times a second; where it says True, the iteration ends.

        Raises:
            KvPoolUsageError: a malformed address.
            KvPoolError: pyzmq or msgspec is not installed.
        """
        self._zmq = _import()
        self._endpoint = check_endpoint(endpoint)
        self._replay = replay and check_endpoint(replay)
        self._timeout_s = connect_timeout_s
        self._stop = stop
        self.health = Health()
        self._last_live: int | None = None
        self._deadline: float | None = None
        zmq = self._zmq
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        events = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED
        self._monitor = self._socket.get_monitor_socket(events)
        self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._socket.connect(self._endpoint)

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.disable_monitor()
        # Closes the socket of a replay, too, where the iteration was left in the middle of one.
        self._context.destroy(linger=0)

    def batches(self, for_s: float | None = None) -> Iterator[Received]:
        """Yield the batches, those that replay has first, until asked to stop or time is over.

        Args:
            for_s: ends that long after the connection; None never.

        Raises:
            PoolUnreachableError: nothing speaks ZMQ at the address within the time to connect.
        """
        if not self._connected():
            return
        if for_s is not None:
            self._deadline = time.monotonic() + for_s
        if self._replay:
            yield from self._replayed(0, None)
        while (message := self._next(self._socket)) is not None:
            if message is not _NOTHING:
                yield from self._admitted(message)

    def _admitted(self, message: list[bytes]) -> Iterator[Received]:
        """Yield what a live message brings: what is missing before it, then itself."""
        health = self.health
        if len(message) != 3 or len(message[1]) != 8:
            health.malformed += 1
            return
        number = int.from_bytes(message[1], "big")
        fresh = self._last_live is not None and number <= self._last_live
        self._last_live = number
        if fresh:
            health.restarts += 1
            health.last = -1
        elif health.last is not None and number <= health.last:
            return  # replay had it
        if health.last is not None and number > health.last + 1:
            gap = Gap(health.last + 1, number - 1)
            if len(health.gaps) < _MOST_GAPS:
                health.gaps.append(gap)
            if self._replay:
                for received in self._replayed(gap.first, number - 1, fresh):
                    gap.recovered += 1
                    fresh = False
                    yield received
            health.lost += gap.lost
        yield from self._decoded(number, message[2], replayed=False, fresh=fresh)

    def _decoded(
        self, number: int, payload: bytes, *, replayed: bool, fresh: bool
    ) -> Iterator[Received]:
        health = self.health
        health.last = number
        if health.joined_at is None:
            health.joined_at = number
        try:
            batch = decode(payload)
        except KvPoolError as error:
            health.malformed += 1
            self._note(error.message)
            return
        health.batches += 1
        health.replayed += replayed
        yield Received(number, batch, replayed, fresh)

    def _replayed(self, first: int, last: int | None, fresh: bool = False) -> Iterator[Received]:
        """Yield the batches from a number on, up to another, that the engine still has."""
        zmq = self._zmq
        with self._context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.IPV6, 1)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(self._replay)
            socket.send_multipart([b"", first.to_bytes(8, "big")])
            heard = time.monotonic()
            while (message := self._next(socket)) is not None:
                if message is _NOTHING:
                    if time.monotonic() - heard > _REPLAY_SILENCE_S:
                        self._note(f"no replay came from {self._replay}")
                        return
                    continue
                heard = time.monotonic()
                # vLLM puts the topic before the number in newer versions; the last two stayed.
                if len(message) < 3 or message[-2] == _END:
                    return
                number = int.from_bytes(message[-2], "big")
                if last is not None and number > last:
                    continue  # comes by itself
                yield from self._decoded(number, message[-1], replayed=True, fresh=fresh)
                fresh = False

    def _connected(self) -> bool:
        """Wait for the first connection; False where it was stopped before."""
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            if self._stop():
                return False
            if self._monitor.poll(_LOOK_MS) and self._heed_monitor():
                self.health.disconnects = 0
                return True
        raise PoolUnreachableError(
            "kv.events.unreachable",
            f"nothing publishes KV events at {self._endpoint}: no ZMQ connection within "
            f"{self._timeout_s:g} s",
            hint=_START_HINT,
            target=self._endpoint,
        )

    def _next(self, socket: "zmq.Socket[bytes]") -> list[bytes] | None:
        """Return the next message, an empty list where none came for a moment, None at the end."""
        if self._stop() or (self._deadline is not None and time.monotonic() >= self._deadline):
            return None
        if socket.poll(_LOOK_MS):
            return socket.recv_multipart()
        self._heed_monitor()
        return _NOTHING

    def _heed_monitor(self) -> bool:
        """Count what broke since the last look; return whether a connection came to be."""
        from zmq.utils.monitor import recv_monitor_message

        connected = False
        while self._monitor.poll(0):
            told = recv_monitor_message(self._monitor)
            self.health.disconnects += told["event"] == self._zmq.Event.DISCONNECTED
            connected |= told["event"] == self._zmq.Event.HANDSHAKE_SUCCEEDED
        return connected

    def _note(self, text: str) -> None:
        if text not in self.health.notes and len(self.health.notes) < 5:
            self.health.notes.append(text)


_NOTHING: list[bytes] = []


def _import() -> Any:
    try:
        import msgspec  # noqa: F401 - the codec needs it, and should not fail in the middle
        import zmq
    except ImportError as error:
        raise KvPoolError(
            "kv.events.package",
            f"KV events need pyzmq and msgspec; {error.name} is not installed",
            hint="pip install 'aibrixctl[events]'",
        ) from error
    return zmq
