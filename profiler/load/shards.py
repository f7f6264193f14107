"""One load from several processes of this machine, measured as if one client had sent it.

Each process takes its part of the same schedule, is told the moment at which the load starts, and
leaves a recording; the figures are read from all recordings together. A process that is lost
before the start ends the run; one that is lost later is named, and its requests are missing.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from accelerators import children
from profiler.errors import ProfilerError, ShardLostError
from profiler.load.config import LoadConfig, LoadRun, LostShard, Progress, check
from profiler.load.part import Part, parts
from profiler.load.recording import Recording
from profiler.load.reduce import reduce
from profiler.load.run import run_load

_START_AFTER_S = 0.5
_POLL_S = 0.1
# A process under load tells its progress twice a second.
_SILENCE_S = 60.0
_STOP_WITHIN_S = 10.0


@dataclass(eq=False)
class _Shard:
    """A process and what is known of it."""

    part: Part
    process: subprocess.Popen[bytes]
    pipe: Connection
    ready: bool = False
    progress: Progress | None = None
    recording: Recording | None = None
    lost: str | None = None
    heard_at: float = 0.0

    @property
    def over(self) -> bool:
        return self.recording is not None or self.lost is not None

    def say(self, word: str, value: float | None = None) -> None:
        try:
            self.pipe.send((word, value))
        except OSError:
            self.lose()

    def lose(self, reason: str | None = None) -> None:
        """Give the process up; without a reason, for how it ended."""
        if reason is None:
            try:
                code = self.process.wait(1)
                reason = f"killed by signal {-code}" if code < 0 else f"its process ended ({code})"
            except subprocess.TimeoutExpired:
                reason = "its pipe was closed"
        self.lost = reason
        self.pipe.close()


def run_sharded(
    config: LoadConfig,
    clients: int,
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadRun:
    """Put one load on a server from so many processes; otherwise as ``run_load``.

    A load too small for so many has fewer. Processes that are lost under way are in ``lost``.

    Raises:
        ShardLostError: a process was gone before the load began, or none left anything.
        ProfilerError: as ``run_load``.
    """
    check(config)
    shares = parts(config, clients)
    if len(shares) == 1:
        return run_load(config, stop=stop, on_progress=on_progress)
    shards: list[_Shard] = []
    try:
        for part in shares:
            shard = _Shard(part, *children.start("profiler.load.shard_worker"))
            shards.append(shard)
            shard.pipe.send((config, part))
        _Run(shards, stop or threading.Event(), on_progress).run()
    finally:
        for shard in shards:
            shard.pipe.close()
            shard.process.kill()
            shard.process.wait()
    return reduce_shards(
        config,
        [shard.recording for shard in shards if shard.recording is not None],
        [LostShard(str(shard.part), shard.lost) for shard in shards if shard.lost is not None],
    )


def reduce_shards(
    config: LoadConfig, recordings: Sequence[Recording], lost: Sequence[LostShard]
) -> LoadRun:
    """Return what the clients of a load measured together; raises ShardLostError without one."""
    if not recordings:
        raise ShardLostError(
            "load.shards_lost",
            f"no shard left a result; shard {lost[0].part}: {lost[0].reason}",
            target=config.base_url,
        )
    return reduce(config, recordings, lost)


def sum_progress(parts: Sequence[Progress]) -> Progress:
    """Return how far a load is, from how far its parts are."""
    totals = [part.total for part in parts if part.total is not None]
    return Progress(
        elapsed_s=max(part.elapsed_s for part in parts),
        sent=sum(part.sent for part in parts),
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        total=sum(totals) if totals else None,
    )


@dataclass
class _Run:
    """The conversation with all processes, from the first word to the last."""

    shards: list[_Shard]
    stop: threading.Event
    on_progress: Callable[[Progress], None] | None
    started: bool = False
    stop_by: float | None = None

    def run(self) -> None:
        while not all(shard.over for shard in self.shards):
            self._hear()
            self._obey_stop()
            if not self.started and all(shard.ready for shard in self.shards):
                self.started = True
                at = time.time() + _START_AFTER_S
                for shard in self.shards:
                    shard.heard_at = time.monotonic()
                    shard.say("start", at)
            if self.started:
                self._give_up_the_silent()
            lost = next((shard for shard in self.shards if shard.lost is not None), None)
            if lost is not None and not self.started:
                raise ShardLostError(
                    "load.shard_lost",
                    f"shard {lost.part} was lost before the load began: {lost.lost}",
                    hint="run it again; if it is lost again, the machine may lack memory",
                )

    def _hear(self) -> None:
        """Take what the processes say, at most until it is time to look at the clock."""
        by_pipe = {shard.pipe: shard for shard in self.shards if not shard.over}
        for pipe in wait(list(by_pipe), timeout=_POLL_S):
            assert isinstance(pipe, Connection)
            shard = by_pipe[pipe]
            try:
                word, value = pipe.recv()
            except (EOFError, OSError):
                shard.lose()
                continue
            shard.heard_at = time.monotonic()
            self._take(shard, word, value)

    def _take(self, shard: _Shard, word: str, value: Any) -> None:
        if word == "ready":
            shard.ready = True
        elif word == "progress":
            shard.progress = value
            self._tell()
        elif word == "recorded":
            shard.recording = value
        elif word == "failed":
            kind, code, message, more = value
            error: ProfilerError = kind(code, message, **more)
            raise error

    def _tell(self) -> None:
        told = [shard.progress for shard in self.shards if shard.progress is not None]
        if self.on_progress is not None and len(told) == len(self.shards):
            self.on_progress(sum_progress(told))

    def _obey_stop(self) -> None:
        """Pass a stop on; what does not obey is given up."""
        if not self.stop.is_set():
            return
        under_way = [shard for shard in self.shards if not shard.over]
        if self.stop_by is None:
            self.started, self.stop_by = True, time.monotonic() + _STOP_WITHIN_S
            for shard in under_way:
                shard.say("stop")
        elif time.monotonic() > self.stop_by:
            for shard in under_way:
                shard.lose(f"it did not stop within {_STOP_WITHIN_S:g} s")

    def _give_up_the_silent(self) -> None:
        for shard in self.shards:
            if not shard.over and time.monotonic() - shard.heard_at > _SILENCE_S:
                shard.lose(f"nothing was heard of it for {_SILENCE_S:g} s")
