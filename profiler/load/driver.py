"""One run of load: sends what is due, watches what is under way, until the last answer."""

import asyncio
import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from profiler.load.config import LoadConfig, Progress
from profiler.load.exchange import Exchange
from profiler.load.pool import Pool
from profiler.load.prompts import PromptMaker
from profiler.load.timer import Timer
from profiler.samples import Floats

TICK_S = 0.005
_WATCH_EVERY = 20  # ticks between looks at timeouts and spare connections, with few in flight
_PROGRESS_EVERY = 100
_EARLY_S = 20e-6
_AHEAD_BYTES = 64 * 2**20
_AHEAD_MOST = 1024
# The time a tick may spend on building requests or on parsing; more where raw bytes pile up.
_SLICE_S = 0.0003
_MUCH_RAW_BYTES, _MUCH_SLICE_S = 16 * 2**20, 0.003
_TOO_MUCH_RAW_BYTES = 64 * 2**20
_READ_BYTES = 160  # what a read costs beside its data
_READS_AT_ONCE = 16
_AFTER_FAILURE_S = 0.1


def _held_bytes(exchange: Exchange) -> int:
    return exchange.raw_bytes + _READ_BYTES * len(exchange.reads)


class Driver:
    """Runs one schedule.

    Attributes:
        exchanges: every request that was due so far, in order.
        loop_lag_s: how late each tick came; ticked_at: when it came.
    """

    def __init__(
        self,
        config: LoadConfig,
        prompts: PromptMaker,
        due: Floats | None,
        indices: Iterator[int],
        stopped: Callable[[], bool],
        on_progress: Callable[[Progress], None] | None,
    ):
        """Take the schedule.

        Args:
            config: what to send.
            prompts: makes the requests.
            due: when, seconds from the start; None for a closed loop.
            indices: places of the requests in the whole load, which decide on their prompts.
            stopped: asked often whether to end at once.
            on_progress: told about twice a second.
        """
        self.exchanges: list[Exchange] = []
        self.loop_lag_s = array("d")
        self.ticked_at = array("d")
        self.started_at = 0.0
        self.completed = 0
        self.failed = 0
        self._config = config
        self._prompts = prompts
        self._due = None if due is None else due.tolist()
        self._stopped = stopped
        self._on_progress = on_progress
        self._pool: Pool
        self._timer: Timer
        self._ticker: Timer
        self._next_tick = 0.0
        self._ticks = 0
        self._in_flight: set[Exchange] = set()
        self._held_back: deque[Exchange] = deque()
        self._unparsed: deque[Exchange] = deque()
        self._unparsed_bytes = 0
        self._pausing = 0
        self._indices = indices
        self._ready: deque[Exchange] = deque()
        self._ahead = 0
        self._counted = 0
        self._finished: asyncio.Event

    def prepare(self) -> None:
        """Build the first requests, so that sending one is a write and no more."""
        size = len(self._prompts.request(0))
        self._ahead = min(max(_AHEAD_BYTES // size, 16), _AHEAD_MOST)
        self._refill(max(self._ahead, self._config.max_concurrency or 0))

    def _refill(self, most: int, deadline: float = math.inf) -> None:
        """Build requests ahead until there are ``most``, or it is later than the deadline."""
        missing = most - len(self._ready)
        if self._due is not None:
            missing = min(missing, len(self._due) - len(self.exchanges) - len(self._ready))
        for index in islice(self._indices, max(missing, 0)):
            self._ready.append(Exchange(index, self._prompts.request(index)))
            if time.monotonic() > deadline:
                break

    async def run(self, pool: Pool, start_at: float | None = None) -> None:
        """Send the schedule and wait until every answer is over, or the run is stopped.

        Args:
            pool: connections.
            start_at: of ``time.monotonic``; at once when None.
        """
        loop = asyncio.get_running_loop()
        self._pool = pool
        self._finished = asyncio.Event()
        self._timer = Timer(loop, self._send_due)
        self._ticker = Timer(loop, self._tick)
        self.started_at = time.monotonic() + TICK_S if start_at is None else start_at
        self._next_tick = self.started_at
        self._ticker.arm(self._next_tick)
        self._timer.arm(self.started_at)
        try:
            await self._finished.wait()
        finally:
            self._timer.close()
            self._ticker.close()

    # Sending.

    def _send_due(self) -> None:
        if self._due is None:
            for _ in range(self._config.max_concurrency or 0):
                self._send_closed()
            self._check_finished()
            return
        now = time.monotonic() + _EARLY_S
        position, due, start = len(self.exchanges), self._due, self.started_at
        while position < len(due) and start + due[position] <= now:
            self._submit(self._take(start + due[position]))
            position += 1
        if position < len(due):
            self._timer.arm(start + due[position])

    def _take(self, due_at: float) -> Exchange:
        if not self._ready:
            self._refill(1)
        exchange = self._ready.popleft()
        exchange.due_at = due_at
        self.exchanges.append(exchange)
        return exchange

    def _submit(self, exchange: Exchange) -> None:
        cap = self._config.max_concurrency
        if cap is not None and len(self._in_flight) >= cap:
            exchange.held_back = True
            self._held_back.append(exchange)
            return
        self._in_flight.add(exchange)
        self._pool.send(exchange)

    def _send_closed(self) -> None:
        """Send the next request of a closed loop, unless the window is over."""
        now = time.monotonic()
        elapsed = now - self.started_at
        window_s = self._config.window_s
        if elapsed >= self._config.warmup_s:
            self._counted += 1
            most = self._config.num_prompts
            if elapsed >= self._config.warmup_s + window_s or (
                most is not None and self._counted > most
            ):
                return
        self._submit(self._take(now))

    def over(self, exchange: Exchange) -> None:
        """Take note that an exchange is over; send what it made room for."""
        if exchange.over:
            return
        exchange.over = True
        exchange.wire = b""
        self._in_flight.discard(exchange)
        self._unparsed.append(exchange)
        self._unparsed_bytes += exchange.raw_bytes
        if self._due is None and exchange.refused:
            # A server that refuses at once would be flooded by a loop that asks at once.
            self._pausing += 1
            asyncio.get_running_loop().call_later(_AFTER_FAILURE_S, self._send_after_pause)
        elif self._due is None:
            self._send_closed()
        elif self._held_back:
            self._submit(self._held_back.popleft())
        self._check_finished()

    def _send_after_pause(self) -> None:
        self._pausing -= 1
        self._send_closed()
        self._check_finished()

    def _check_finished(self) -> None:
        sent_all = self._due is None or len(self.exchanges) == len(self._due)
        if sent_all and not (self._in_flight or self._held_back or self._pausing):
            self._finished.set()

    # Housekeeping.

    @property
    def _watch_every(self) -> int:
        """Ticks between looks at every request in flight: the more there are, the rarer."""
        return _WATCH_EVERY * (1 + len(self._in_flight) // 500)

    def _tick(self) -> None:
        now = time.monotonic()
        self.loop_lag_s.append(max(now - self._next_tick, 0.0))
        self.ticked_at.append(now)
        self._ticks += 1
        self._next_tick = max(self._next_tick + TICK_S, now)
        if self._stopped():
            self._finished.set()
            return
        self._refill(self._ahead, now + _SLICE_S)
        self._parse_some(now)
        if self._ticks % self._watch_every == 0:
            self._watch(now)
        if self._on_progress is not None and self._ticks % _PROGRESS_EVERY == 0:
            self._on_progress(self.progress(now))
        self._ticker.arm(self._next_tick)

    def _parse_some(self, now: float) -> None:
        """Parse finished answers while little time goes by; long streams when memory asks."""
        under_way = 0
        if self._ticks % self._watch_every == 0:
            under_way = sum(map(_held_bytes, self._in_flight))
        waiting = self._unparsed_bytes + under_way
        slice_s = _SLICE_S if waiting < _MUCH_RAW_BYTES else _MUCH_SLICE_S
        deadline = math.inf if waiting > _TOO_MUCH_RAW_BYTES else now + slice_s
        while self._unparsed and time.monotonic() < deadline:
            exchange = self._unparsed[0]
            before = exchange.raw_bytes
            if exchange.parse(_READS_AT_ONCE):
                self._count(self._unparsed.popleft())
            self._unparsed_bytes -= before - exchange.raw_bytes
        if under_way > _MUCH_RAW_BYTES:
            self._parse_under_way(deadline)

    def _parse_under_way(self, deadline: float) -> None:
        """Parse the streams that hold most, the longest first."""
        for exchange in sorted(self._in_flight, key=_held_bytes, reverse=True):
            while time.monotonic() < deadline and not exchange.parse(_READS_AT_ONCE):
                pass

    def parse_rest(self) -> None:
        """Parse what is left, once no time is measured any more."""
        while self._unparsed:
            exchange = self._unparsed.popleft()
            exchange.parse()
            self._count(exchange)

    def _count(self, exchange: Exchange) -> None:
        exchange.judge(self._config.output_tokens, exact=self._config.ignore_eos)
        if exchange.cause is None:
            self.completed += 1
        else:
            self.failed += 1

    def _watch(self, now: float) -> None:
        """End what takes too long; keep connections open ahead of the load."""
        config = self._config
        for exchange in list(self._in_flight):
            since = now - (exchange.sent_at if exchange.sent_at == exchange.sent_at else now)
            if since > config.timeout_s:
                self._give_up(exchange, "timeout", config.timeout_s, "no end of the answer")
            elif now - exchange.last_read_at > config.stall_timeout_s and self._started(exchange):
                self._give_up(exchange, "timeout_stall", config.stall_timeout_s, "silence")
            elif since > config.first_token_timeout_s and not self._started(exchange):
                limit = config.first_token_timeout_s
                self._give_up(exchange, "timeout_first_token", limit, "no token")
        spares = max(4, len(self._in_flight) // 8)
        if self._config.max_concurrency is not None:
            spares = min(spares, self._config.max_concurrency - len(self._in_flight))
        if self._due is not None:
            spares = min(spares, len(self._due) - len(self.exchanges))
            self._pool.keep_spares(max(spares, 0))

    @staticmethod
    def _started(exchange: Exchange) -> bool:
        """Return whether its first token has come."""
        if exchange.tokens.visible is None and exchange.reads:
            exchange.parse()
        return exchange.tokens.visible is not None

    def _give_up(self, exchange: Exchange, cause: str, limit_s: float, what: str) -> None:
        exchange.fail(cause, f"{what} for {limit_s:g} s")
        self._pool.cut(exchange)
        self.over(exchange)

    def progress(self, now: float) -> Progress:
        """Return how far the run is."""
        return Progress(
            elapsed_s=now - self.started_at,
            sent=len(self.exchanges) - len(self._held_back),
            completed=self.completed,
            failed=self.failed,
            in_flight=len(self._in_flight),
            total=None if self._due is None else len(self._due),
        )
