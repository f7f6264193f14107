"""Load on a simulated replica in virtual time: open loop on a schedule, or closed loop."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from profiler.errors import ProfilerUsageError
from profiler.samples import Samples
from profiler.sim.engine import Advance, Engine, Request
from profiler.sim.replica import Replica

Counts = Sequence[int] | npt.NDArray[np.int64]
TOO_LONG = "context_length"


def simulate(
    replica: Replica,
    scheduled_s: Sequence[float] | npt.NDArray[np.float64],
    input_tokens: Counts,
    output_tokens: Counts,
) -> Samples:
    """Return what a client would see that sends each request at its time and reads to the end.

    Args:
        replica: what serves.
        scheduled_s: [n] arrival times, seconds, ascending.
        input_tokens: [n] size of each prompt.
        output_tokens: [n] tokens that each request generates.

    A request that the replica can never serve fails with ``context_length``. The same arguments
    give the same samples.

    Raises:
        ProfilerUsageError: lengths differ, times descend, or a size is below 1.
    """
    due = np.array(scheduled_s, dtype=np.float64)
    if np.any(np.diff(due) < 0) or not np.all(np.isfinite(due)):
        raise ProfilerUsageError("sim.schedule", "the schedule must be finite and ascending")
    run = _Run(replica, due, input_tokens, output_tokens)
    for index in range(len(due)):
        if run.accept(index):
            run.work_until(due[index])
            run.send(index)
    run.work_until(np.inf)
    return run.samples()


def simulate_closed_loop(
    replica: Replica, concurrency: int, input_tokens: Counts, output_tokens: Counts
) -> Samples:
    """Return what a client would see that keeps ``concurrency`` requests under way.

    Raises:
        ProfilerUsageError: as :func:`simulate`, or a concurrency below 1.
    """
    if concurrency < 1:
        raise ProfilerUsageError("sim.concurrency", f"concurrency is {concurrency}; expected 1 up")
    run = _Run(replica, np.full(len(input_tokens), np.nan), input_tokens, output_tokens)
    todo = iter([index for index in range(len(input_tokens)) if run.accept(index)])
    under_way = 0
    for index in todo:
        run.send(index)
        under_way += 1
        while under_way >= concurrency:
            under_way -= run.work()
    run.work_until(np.inf)
    refused = np.isnan(run.due)
    run.due[refused] = 0.0
    return run.samples()


class _Run:
    """One run: the engine, and what was seen of each request and of the gaps between tokens."""

    def __init__(
        self,
        replica: Replica,
        due: npt.NDArray[np.float64],
        input_tokens: Counts,
        output_tokens: Counts,
    ):
        self.engine = Engine(replica)
        self.due = due
        self.inputs = np.array(input_tokens, dtype=np.int64)
        self.outputs = np.array(output_tokens, dtype=np.int64)
        if not len(due) == len(self.inputs) == len(self.outputs):
            raise ProfilerUsageError(
                "sim.lengths",
                f"{len(due)} times, {len(self.inputs)} input and {len(self.outputs)} output sizes",
            )
        if np.any(self.inputs < 1) or np.any(self.outputs < 1):
            raise ProfilerUsageError("sim.no_tokens", "every request needs a token in and out")
        self.first = np.full(len(due), np.nan)
        self.last = np.full(len(due), np.nan)
        self.errors: list[str | None] = [None] * len(due)
        self.advances: list[Advance] = []

    def accept(self, index: int) -> bool:
        """Return whether the replica can serve a request; mark it failed otherwise."""
        if self.engine.replica.refuses(int(self.inputs[index]), int(self.outputs[index])):
            self.errors[index] = TOO_LONG
            self.outputs[index] = 0
            return False
        return True

    def send(self, index: int) -> None:
        """Hand a request to the engine now, or when it is due if the engine idles."""
        if self.engine.idle and self.due[index] > self.engine.clock_s:
            self.engine.clock_s = float(self.due[index])
        if np.isnan(self.due[index]):
            self.due[index] = self.engine.clock_s
        self.engine.add(Request(index, int(self.inputs[index]), int(self.outputs[index])))

    def work_until(self, until_s: float) -> None:
        """Run steps until the clock reaches a time or nothing is left to do."""
        while not self.engine.idle and self.engine.clock_s < until_s:
            self.work(until_s)

    def work(self, until_s: float = np.inf) -> int:
        """Run the engine once and note what happened; return how many requests ended."""
        advance = self.engine.advance(until_s)
        self.advances.append(advance)
        now = self.engine.clock_s
        for request in advance.first:
            if np.isnan(self.first[request.key]):
                self.first[request.key] = now
        for request in advance.finished:
            self.last[request.key] = now
        return len(advance.finished)

    def samples(self) -> Samples:
        """Return all that was seen."""
        steps = [advance for advance in self.advances if advance.decoded]
        gaps = [advance.step_s for advance in steps]
        ends = [advance.end_s for advance in steps]
        weights = [np.full(len(advance.step_s), float(advance.decoded)) for advance in steps]
        for advance in self.advances:
            if advance.resumed:
                gaps.append(np.array(advance.resumed))
                ends.append(np.full(len(advance.resumed), advance.end_s[-1]))
                weights.append(np.ones(len(advance.resumed)))
        empty = np.zeros(0)
        return Samples(
            scheduled_s=self.due,
            sent_s=self.due,
            first_token_s=self.first,
            last_token_s=self.last,
            input_tokens=self.inputs,
            output_tokens=self.outputs,
            errors=self.errors,
            gap_s=np.concatenate([empty, *gaps]),
            gap_end_s=np.concatenate([empty, *ends]),
            gap_weight=np.concatenate([empty, *weights]),
        )
