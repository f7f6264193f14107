"""The engine in real time: steps are delivered when their virtual time has come.

Deadlines are absolute, so a late wake-up delays one step and not all that follow.
"""

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import Protocol

from profiler.load.timer import Timer
from profiler.sim.engine import Advance, Engine, Request
from profiler.sim.faults import Faults
from profiler.sim.metrics import Metrics


class Sink(Protocol):
    """Where the tokens of one request go."""

    def token(self, *, last: bool) -> None:
        """Take the next token."""


@dataclass
class _Live:
    """A request under way: where its tokens go, and when it reached which point."""

    sink: Sink
    reason: str
    arrived_s: float
    first_s: float | None = field(default=None)
    last_s: float = 0.0


class RealTimeEngine:
    """An engine whose virtual clock runs ``speed`` times as fast as the wall's.

    Attributes:
        engine: the model; its state is that at the end of the step under way.
        metrics: what was delivered.
        faults: those that the scheduler is to have.
    """

    def __init__(
        self, engine: Engine, speed: float, loop: asyncio.AbstractEventLoop, faults: Faults
    ):
        self.engine = engine
        self.metrics = Metrics()
        self.faults = faults
        self._speed = speed
        self._loop = loop
        self._start_s = time.monotonic()
        self._timer = Timer(loop, self._due)
        self._live: dict[Request, _Live] = {}
        self._pending: Advance | None = None
        self._starting = False
        self._resume: asyncio.TimerHandle | None = None
        self._wedged = False

    def submit(self, request: Request, sink: Sink, reason: str) -> None:
        """Queue a request; ``reason`` is how it will end: ``length`` or ``stop``.

        Raises:
            ProfilerUsageError: it is longer than the replica can ever serve.
        """
        self.engine.add(request)
        self._live[request] = _Live(sink, reason, time.monotonic())
        if self._pending is None and not self._starting and not self._wedged:
            self._starting = True
            # All requests of one read of the sockets start together.
            self._loop.call_soon(self._wake)

    def abort(self, request: Request) -> None:
        """Drop a request; no further token of it is delivered."""
        if self._live.pop(request, None) is not None:
            self.engine.abort(request)
            self.metrics.success["abort"] += 1

    def close(self) -> None:
        """Stop for good."""
        self._timer.close()
        if self._resume is not None:
            self._resume.cancel()

    @property
    def live(self) -> int:
        """Requests under way."""
        return len(self._live)

    def _wake(self) -> None:
        self._starting = self._wedged = False
        now = (time.monotonic() - self._start_s) * self._speed
        self.engine.clock_s = max(self.engine.clock_s, now)
        self._begin()

    def _begin(self) -> None:
        """Compute the next step; it is delivered when it would have ended."""
        if self.engine.idle:
            self._pending = None
            return
        if self.faults.value("wedge") is not None:
            self._stand_still()
            return
        self._pending = self._faulty_step()
        now = time.monotonic()
        for request in self._pending.admitted:
            live = self._live.get(request)
            if live is not None and live.first_s is None:
                self.metrics.queue.observe(now - live.arrived_s)
                self.metrics.cache_queries += request.input_tokens
                self.metrics.cache_hits += min(request.cached_tokens, request.input_tokens - 1)
        self._timer.arm(self._start_s + self.engine.clock_s / self._speed)

    def _stand_still(self) -> None:
        """Step no more while the scheduler is wedged; requests still join the queue."""
        self._pending = None
        self._wedged = True
        left_s = self.faults.remaining_s("wedge")
        if left_s < math.inf:
            self._resume = self._loop.call_later(left_s, self._wake)

    def _faulty_step(self) -> Advance:
        """Run a step with the faults that act now."""
        engine, faults = self.engine, self.faults
        engine.most_running = engine.replica.max_num_seqs if faults.value("queue") is None else 1
        engine.hold(faults.value("kv-full") or 0.0)
        if faults.strikes("preempt"):
            engine.preempt()
        advance = engine.step()
        slower = faults.value("slow")
        if slower is not None:
            engine.clock_s += (slower - 1) * float(advance.step_s[-1])
        return advance

    def _due(self) -> None:
        advance = self._pending
        if advance is None:
            return
        now = time.monotonic()
        late = now - (self._start_s + self.engine.clock_s / self._speed)
        self.metrics.late_s = late
        self.metrics.worst_late_s = max(self.metrics.worst_late_s, late)
        finished = set(advance.finished)
        receivers = dict.fromkeys((*self.engine.decoding(), *advance.first, *advance.finished))
        for request in receivers:
            live = self._live.get(request)
            if live is not None:
                self._count(live, request, now, last=request in finished)
                live.sink.token(last=request in finished)
        self._begin()

    def _count(self, live: _Live, request: Request, now: float, *, last: bool) -> None:
        metrics = self.metrics
        metrics.generation_tokens += 1
        if live.first_s is None:
            live.first_s = now
            metrics.prompt_tokens += request.input_tokens
            metrics.ttft.observe(now - live.arrived_s)
        else:
            metrics.itl.observe(now - live.last_s)
        live.last_s = now
        if last:
            del self._live[request]
            metrics.success[live.reason] += 1
            metrics.e2e.observe(now - live.arrived_s)
            metrics.tpot.observe((now - live.first_s) / max(request.output_tokens - 1, 1))
