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
from dataclasses import dataclass, replace

import numpy as np

from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.load.address import Address, parse_url, resolve, tls_context
from profiler.load.calibrate import Prober, calibrate
from profiler.load.collect import Observed, busy, observe
from profiler.load.config import LoadConfig, LoadRun, Progress, check
from profiler.load.driver import Driver
from profiler.load.exchange import Exchange
from profiler.load.health import assess
from profiler.load.notes import notes_of
from profiler.load.pool import Pool
from profiler.load.preflight import Engine, inspect, refuse_length
from profiler.load.prompts import PromptMaker
from profiler.load.schedule import due_times
from profiler.samples import ClientHealth, Floats, summarise

_MOST_FIRST_CONNECTIONS = 256
_FILES_BESIDE = 64
_STEADY_ROUNDS = 4


@dataclass(frozen=True)
class _Raw:
    """What the event loop leaves behind; times of ``time.monotonic``."""

    exchanges: list[Exchange]
    started_at: float
    ended_at: float
    loop_lag_s: Floats
    stretches: tuple[Floats, Floats]
    cpu_share: float
    resent: int
    complete: bool
    notes: tuple[str, ...]


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
    check(config)
    address = parse_url(config.base_url)
    tls = tls_context(config) if address.scheme == "https" else None
    where = resolve(address)
    engine = inspect(config, address, tls, stop)
    refuse_length(config, engine)
    _allow_connections(config)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raw = runner.run(_measure(config, address, where, tls, engine.longest, stop, on_progress))
    return _reduce(config, engine, raw)


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


async def _measure(
    config: LoadConfig,
    address: Address,
    where: list[tuple[int, str]],
    tls: ssl.SSLContext | None,
    longest: int | None,
    stop: threading.Event | None,
    on_progress: Callable[[Progress], None] | None,
) -> _Raw:
    prompts = PromptMaker(config, address)
    prober = Prober(config, stop)
    pool = Pool(prober, address, where, tls, config.connect_timeout_s)
    try:
        await _open(pool, address, 1)
        found = await calibrate(config, address, pool, prober, prompts, longest)
        due = None if config.request_rate is None else due_times(config)
        driver = Driver(
            config, prompts, due, lambda: stop is not None and stop.is_set(), on_progress
        )
        if not found.stopped:
            driver.prepare()
            await _open(pool, address, _first_connections(config))
            pool.serve(driver)
            with _no_garbage_collection():
                cpu = time.process_time()
                await driver.run(pool)
                ended_at = time.monotonic()
                cpu = time.process_time() - cpu
            driver.parse_rest()
        else:
            ended_at, cpu = time.monotonic(), 0.0
    finally:
        await pool.close()
    stopped = found.stopped or (stop is not None and stop.is_set())
    return _Raw(
        exchanges=[exchange for exchange in driver.exchanges if exchange.over],
        started_at=driver.started_at,
        ended_at=ended_at,
        loop_lag_s=np.array(driver.loop_lag_s),
        stretches=busy(
            np.array(pool.turns), np.array(driver.ticked_at), np.array(driver.loop_lag_s)
        ),
        cpu_share=cpu / max(ended_at - driver.started_at, 1e-9),
        resent=pool.resent,
        complete=not stopped,
        notes=(*found.notes, *_cut_short(driver)),
    )


def _cut_short(driver: Driver) -> tuple[str, ...]:
    cut = sum(not exchange.over for exchange in driver.exchanges)
    return (f"stopped early: {cut} requests in flight are left out",) if cut else ()


async def _open(pool: Pool, address: Address, count: int) -> None:
    failure = await pool.open(count)
    if failure is not None:
        raise EngineUnreachableError(
            "load.unreachable",
            f"{address.url} accepts no connection: {failure.strerror or failure}",
            hint="start the server, or check the URL",
            target=address.url,
        )


def _first_connections(config: LoadConfig) -> int:
    """Return how many connections to open ahead: all that a closed loop or a second's load needs.

    An open loop's need grows with the answers' length, unknown yet; spares follow it.
    """
    if config.request_rate is None:
        return config.max_concurrency or 0
    guess = min(max(8, math.ceil(config.request_rate)), _MOST_FIRST_CONNECTIONS)
    return min(guess, config.max_concurrency or guess)


def _window(config: LoadConfig, raw: _Raw) -> tuple[float, float]:
    """Return the steady window, seconds from the start.

    A closed loop over a number of requests is steady until the last one is sent, if there were
    enough of them to fill it several times; else all of it counts, the ramp down included.
    """
    start, end = config.warmup_s, config.warmup_s + config.window_s
    elapsed = raw.ended_at - raw.started_at
    if config.request_rate is None and config.num_prompts is not None:
        sent = [e.sent_at for e in raw.exchanges if e.sent_at > 0]
        by_count = max(sent, default=raw.started_at) - raw.started_at + 1e-6
        if config.num_prompts < _STEADY_ROUNDS * (config.max_concurrency or 0):
            by_count = elapsed
        end = min(end, by_count)
    if not raw.complete:
        end = min(end, elapsed)
    return (start, end) if end > start else (0.0, max(elapsed, 1e-3))


def _reduce(config: LoadConfig, engine: Engine, raw: _Raw) -> LoadRun:
    if config.request_rate is None:
        for exchange in raw.exchanges:
            exchange.due_at = exchange.sent_at if exchange.sent_at > 0 else exchange.due_at
    observed = observe(raw.exchanges, raw.started_at, config.input_tokens, raw.stretches)
    window = _window(config, raw)
    notes = (
        *(["the engine is a simulator"] if "simulator" in engine.name else []),
        *raw.notes,
        *notes_of(config, raw.exchanges, observed, raw.resent, window),
    )
    summary = summarise(observed.samples, window=window, slos=config.slos, notes=notes)
    health = ClientHealth()
    if raw.exchanges:
        health = assess(
            observed,
            summary,
            summarise(observed.prompt, window=window),
            window=window,
            loop_lag_s=raw.loop_lag_s,
            cpu_share=raw.cpu_share,
        )
    messages: dict[str, str] = {}
    for exchange in raw.exchanges:
        if exchange.cause is not None:
            messages.setdefault(exchange.cause, exchange.message)
    return LoadRun(
        summary=replace(summary, client=health),
        samples=observed.samples,
        complete=raw.complete,
        engine=engine.name,
        engine_version=engine.version,
        input_tokens_mean=_mean(observed, "input_tokens"),
        output_tokens_mean=_mean(observed, "output_tokens"),
        window=window,
        chunks=observed.chunks,
        messages=messages,
    )


def _mean(observed: Observed, name: str) -> float | None:
    ok = np.array([error is None for error in observed.samples.errors], dtype=bool)
    return float(getattr(observed.samples, name)[ok].mean()) if ok.any() else None
