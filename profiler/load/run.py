"""The measurement of one load, from the first check to the figures."""

import asyncio
import contextlib
import gc
import math
import resource
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.load.address import Address, parse_url, resolve, tls_context
from profiler.load.calibrate import Prober, calibrate
from profiler.load.config import LoadConfig, LoadRun, Progress, check
from profiler.load.driver import Driver
from profiler.load.exchange import Exchange
from profiler.load.part import WHOLE, Part
from profiler.load.pool import Pool
from profiler.load.preflight import inspect, refuse_length
from profiler.load.prompts import PromptMaker
from profiler.load.recording import Client, Recording, busy, record
from profiler.load.reduce import reduce
from profiler.samples import Floats

_MOST_FIRST_CONNECTIONS = 256
_FILES_BESIDE = 64


Gate = Callable[[], float | None]
"""Called once a client is ready: waits, and returns the Unix time at which the load starts, or
None when it is called off. It may block; it runs in a thread of its own."""


def run_load(
    config: LoadConfig,
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadRun:
    """Put a load on a server and return what it measured.

    Args:
        config: what to send.
        stop: when set, the run ends at once and returns what it has, with ``complete`` False.
        on_progress: called about twice a second, in the thread of the run; must return quickly.

    Raises:
        ProfilerUsageError: the configuration, the model's name or the lengths are refused.
        EngineUnreachableError: the server does not answer, or refuses access.
    """
    return reduce(config, [record_load(config, stop=stop, on_progress=on_progress)])


def record_load(
    config: LoadConfig,
    part: Part = WHOLE,
    *,
    gate: Gate | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Recording:
    """Put one client's part of a load on a server and return what it recorded.

    Args:
        config: of the whole load.
        part: which of its requests to send.
        gate: where all clients of a load wait for each other; without one it starts at once.
        stop: when set, the run ends at once.
        on_progress: called about twice a second.

    Raises:
        ProfilerError: as :func:`run_load` does, and only before the load begins.
    """
    check(config)
    config, due = part.of(config), part.due(config)
    address = parse_url(config.base_url)
    tls = tls_context(config) if address.scheme == "https" else None
    where = resolve(address)
    engine = inspect(config, address, tls, stop)
    refuse_length(config, engine)
    _allow_connections(config)
    import uvloop

    sender = _Sender(config, part, due, gate, stop, on_progress)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        exchanges, told = runner.run(sender.measure(address, where, tls, engine.longest))
    return record(
        exchanges,
        told,
        input_tokens=config.input_tokens,
        engine=engine.name,
        engine_version=engine.version,
        closed_loop=due is None,
        part=str(part),
    )


def _allow_connections(config: LoadConfig) -> None:
    """Raise the limit on open files as far as it goes, and refuse what it can't hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    wanted = (config.max_concurrency or 0) + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and wanted > soft:
        raise ProfilerUsageError(
            "load.open_files",
            f"{config.max_concurrency} requests in flight need {wanted} open files; "
            f"the limit is {soft}",
            hint="raise it with ulimit -n, or lower the concurrency",
            target="max_concurrency",
        )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector's pauses out of the measurement; the run makes no cycles to speak of."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


@dataclass
class _Sender:
    """One client at work on its part of a load; ``config`` and ``due`` are the part's."""

    config: LoadConfig
    part: Part
    due: Floats | None
    gate: Gate | None
    stop: threading.Event | None
    on_progress: Callable[[Progress], None] | None
    start_at: float | None = None

    def stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    async def measure(
        self,
        address: Address,
        where: list[tuple[int, str]],
        tls: ssl.SSLContext | None,
        longest: int | None,
    ) -> tuple[list[Exchange], Client]:
        """Calibrate, wait at the gate, run; return the exchanges that are over, and the rest."""
        config = self.config
        prompts = PromptMaker(config, address)
        prober = Prober(config, self.stop)
        pool = Pool(prober, address, where, tls, config.connect_timeout_s)
        driver = Driver(
            config, prompts, self.due, self.part.indices(), self.stopped, self.on_progress
        )
        cpu_s, ran = 0.0, False
        try:
            await _open(pool, address, 1)
            found = await calibrate(config, address, pool, prober, prompts, longest)
            if not found.stopped:
                driver.prepare()
                ran = await self._gate_opens()
            if ran:
                # What idled at the gate may be closed by the server any moment.
                pool.keep_spares(0)
                await _open(pool, address, self._first_connections())
                pool.serve(driver)
                with _no_garbage_collection():
                    cpu_s = time.process_time()
                    await driver.run(pool, self.start_at)
                    cpu_s = time.process_time() - cpu_s
            ended_at = time.monotonic()
            driver.parse_rest()
        finally:
            await pool.close()
        return [exchange for exchange in driver.exchanges if exchange.over], Client(
            started_at=driver.started_at,
            ended_at=ended_at,
            loop_lag_s=np.array(driver.loop_lag_s),
            stretches=busy(
                np.array(pool.turns), np.array(driver.ticked_at), np.array(driver.loop_lag_s)
            ),
            cpu_share=cpu_s / max(ended_at - driver.started_at, 1e-9),
            complete=ran and not self.stopped(),
            cut=sum(not exchange.over for exchange in driver.exchanges),
            resent=pool.resent,
            notes=found.notes,
        )

    async def _gate_opens(self) -> bool:
        """Wait until the start is agreed; return False when the load is called off."""
        if self.gate is None:
            return True
        unix_s = await asyncio.to_thread(self.gate)
        if unix_s is None:
            return False
        self.start_at = time.monotonic() + (unix_s - time.time())
        return True

    def _first_connections(self) -> int:
        """Return how many connections to open ahead: a closed loop's, or for a second's load.

        An open loop's need grows with the answers' length, unknown yet; spares follow it.
        """
        cap, rate = self.config.max_concurrency, self.config.request_rate
        if rate is None:
            return cap or 0
        guess = min(max(8, math.ceil(rate / self.part.count)), _MOST_FIRST_CONNECTIONS)
        return min(guess, cap or guess)


async def _open(pool: Pool, address: Address, count: int) -> None:
    failure = await pool.open(count)
    if failure is not None:
        raise EngineUnreachableError(
            "load.unreachable",
            f"{address.url} accepts no connection: {failure.strerror or failure}",
            hint="start the server, or check the URL",
            target=address.url,
        )
