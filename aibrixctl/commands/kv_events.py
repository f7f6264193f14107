"""``aibrixctl kv events``: follow what an engine's cache takes in and drops."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_bytes import BytesPerToken, Model, token_bytes
from aibrixctl.result import Problem, Result
from aibrixctl.signals import StopFlag, interruptible
from aibrixctl.terminal import drop_stdout

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.events.cache import LiveCache
    from kvpool.events.stream import EventStream, Health, Received


@command(
    "kv events",
    examples=(
        (
            "aibrixctl kv events tcp://127.0.0.1:5557 --replay tcp://127.0.0.1:5558 --for 2s",
            "what the cache holds, what the engine still tells of the past included",
        ),
        (
            "aibrixctl kv events tcp://127.0.0.1:5557 --count 5 -o jsonl",
            "the next five events as they come, one record a line",
        ),
        (
            "aibrixctl kv events tcp://127.0.0.1:5557 --count 5 --model llama-3-8b",
            "live size in bytes, and the prefixes that are shared most",
        ),
    ),
)
def events(
    endpoint: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Where the engine publishes: tcp://HOST:5557.")
    ],
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay", metavar="ADDRESS", help="Where it repeats what was missed: tcp://HOST:5558."
        ),
    ] = None,
    topic: Annotated[
        str, typer.Option("--topic", help="Listen to topics that begin so; all by default.")
    ] = "",
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="End after so many events.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="End after so long.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=0, help="Show so many of the prefixes that are shared.")
    ] = 10,
    token_ids: Annotated[
        bool,
        typer.Option("--token-ids", help="Have the prompts' token ids in the records of -o jsonl."),
    ] = False,
    bytes_per_token: BytesPerToken = None,
    model: Model = None,
    connect_timeout: Annotated[
        str, typer.Option("--connect-timeout", metavar="TIME", help="Wait this long for an engine.")
    ] = "10s",
) -> Result:
    """Follow the KV events of vLLM or SGLang: blocks stored and removed, and what that leaves.

    Without --count or --for it goes on until Ctrl-C. With -o jsonl each event is a line as it
    comes, the summary the last. Gaps in the numbers are filled from --replay, which also tells
    what was stored before; without it, sizes count only what was seen. An engine publishes with
    --kv-events-config, each data parallel rank at a port of its own.

    Exit code 3: events were lost, so sizes are not exact.
    """
    from accelerators.errors import UsageError
    from aibrixctl import quantities
    from kvpool.events.cache import LiveCache
    from kvpool.events.stream import EventStream

    now = session()
    if now.output == "jsonl" and now.output_file is not None:
        raise UsageError(
            "option.conflict",
            "-o jsonl prints events as they come, which --output-file can't take in whole",
            hint="redirect standard output: > FILE",
        )
    for_s = None if duration is None else quantities.duration("--for", duration)
    each = token_bytes(bytes_per_token, model)
    timeout_s = quantities.duration("--connect-timeout", connect_timeout)
    cache = LiveCache()
    with (
        interruptible() as stop,
        now.reporter.progress("connecting", count or for_s) as bar,
        EventStream(
            endpoint, replay=replay, topic=topic, connect_timeout_s=timeout_s, stop=stop.is_set
        ) as stream,
    ):
        follower = _Follower(cache, count, token_ids, bar.update)
        follower.run(stream, for_s, records=now.output == "jsonl")
    return _result(endpoint, cache, stream.health, follower, stop, top=top, each=each)


@dataclass
class _Follower:
    """Applies events to a cache, and prints them where records are wanted.

    Attributes:
        cache: to apply them to.
        count: of events to end after; None for no end.
        token_ids: whether records have them.
        tell: updates the progress.
        started_s: of the monotonic clock.
        first_s, last_s: the engine's time at the first and the last batch.
    """

    cache: "LiveCache"
    count: int | None
    token_ids: bool
    tell: Callable[..., None]
    started_s: float = field(default_factory=time.monotonic)
    first_s: float | None = None
    last_s: float | None = None

    def run(self, stream: "EventStream", for_s: float | None, *, records: bool) -> None:
        """Follow the stream to its end, the wanted count, or a closed standard output."""
        for received in stream.batches(for_s):
            lines = self._apply(received, records=records)
            self._report()
            try:
                if lines:
                    sys.stdout.write("".join(lines))
                    sys.stdout.flush()
            except BrokenPipeError:
                drop_stdout()
                return
            if self._done():
                return

    def _apply(self, received: "Received", *, records: bool) -> list[str]:
        from aibrixctl.kv_events_view import record

        if received.fresh:
            self.cache.forget()
        time_s = received.batch.time_s
        self.first_s = time_s if self.first_s is None else self.first_s
        self.last_s = time_s
        lines = []
        for event in received.batch.events:
            if self._done():
                break
            self.cache.apply(event)
            if records:
                body = record(received, event, token_ids=self.token_ids)
                lines.append(json.dumps(body, sort_keys=True) + "\n")
        return lines

    def _done(self) -> bool:
        return self.count is not None and self.cache.counts.events >= self.count

    def _report(self) -> None:
        events = self.cache.counts.events
        done = time.monotonic() - self.started_s if self.count is None else events
        self.tell(done, text=f"{events:,} events, {self.cache.blocks:,} live blocks")


def _result(
    endpoint: str,
    cache: "LiveCache",
    health: "Health",
    follower: _Follower,
    stop: StopFlag,
    *,
    top: int,
    each: int | None,
) -> Result:
    from aibrixctl.kv_events_view import document, draw

    span = (follower.first_s, follower.last_s)
    data = document(endpoint, cache, health, span, top=top, bytes_per_token=each)

    def view(console: "Console", wide: bool) -> None:
        draw(console, data, wide=wide)

    streamed = session().output == "jsonl"
    common: dict[str, Any] = {
        "rows": None if streamed else data["top_prefixes"],
        "record": "prefix",
        "view": view,
        "warnings": _warnings(health, endpoint),
    }
    if stop.is_set():
        problem = Problem("interrupted", "stopped; what came until then is shown", endpoint)
        return Result(data, status="partial", exit_code=stop.exit_code, errors=(problem,), **common)
    if health.lost or health.malformed:
        problem = Problem(
            "kv.events.lost",
            f"batches lost: {health.lost:,}; messages not understood: {health.malformed:,}; "
            "sizes are not exact",
            endpoint,
            "give --replay, or let the engine keep more with buffer_steps",
        )
        return Result(
            data, status="partial", exit_code=ExitCode.PARTIAL, errors=(problem,), **common
        )
    return Result(data, **common)


def _warnings(health: "Health", endpoint: str) -> tuple[Problem, ...]:
    warnings = [Problem("kv.events.note", note, endpoint) for note in health.notes]
    if health.joined_at:
        text = f"{health.joined_at:,} batches were before the first that came; sizes lack them"
        warnings.append(Problem("kv.events.joined", text, endpoint))
    if health.restarts:
        text = f"the engine started anew {health.restarts} times; its cache was empty then"
        warnings.append(Problem("kv.events.restarts", text, endpoint))
    if health.disconnects:
        text = f"the connection broke {health.disconnects} times"
        warnings.append(Problem("kv.events.disconnects", text, endpoint))
    return tuple(warnings)
