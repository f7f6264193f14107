"""Probe a simulated replica in virtual time.

Arrivals are Poisson, with exactly the asked number of them in the warm-up, the window and the
cool-down each, so that the offered rate is the asked one.

Near its capacity a replica takes so long to fill that no affordable window shows whether its
queue will grow; and once a queue has formed, preemption may lower the capacity so that it never
drains. So the capacity is measured on its own, full and overloaded, and no rate near the lower
of the two counts as sustained. Warm-up and window are as long as the replica's own time scale at
that load.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from profiler.probes import Measurement
from profiler.run_config import ProfileConfig
from profiler.samples import summarise
from profiler.targets import Target
from profiler.verdict import judge, wanted_requests

if TYPE_CHECKING:
    import numpy as np

    from profiler.samples import Floats, Ints, Samples

_LONE_REQUESTS = 5
_APART_S = 1e6
# Stages of a probe in times that a request spends in the replica at that load.
_WARMUP, _WINDOW, _COOLDOWN = 3.0, 12.0, 1.0
# The more requests a replica holds, the less its load varies: a shorter window then does.
_ENOUGH_REQUESTS, _LEAST_WINDOW = 3000, 3.0
# Requests per place of the replica that measure its capacity, and the share that is timed.
_PER_PLACE, _TIMED = 4, (0.1, 0.7)
_PER_PLACE_OVERLOADED, _TIMED_OVERLOADED, _OVERLOAD = 8, (0.3, 0.7), 1.3
# Above this share of its capacity, bursts that no window is long enough to meet build queues
# that take minutes to drain.
_SUSTAINED_SHARE = 0.9


@dataclass(frozen=True)
class _Pace:
    """The time scale of a cell.

    Attributes:
        lone_s: a request alone; NaN when the replica can't hold it.
        full_s: a request in the full replica.
        capacity: requests/s that the replica ends with a queue before it.
    """

    lone_s: float
    full_s: float
    capacity: float

    def stages_s(self, rate: float, requests: int) -> tuple[float, float, float]:
        """Return the lengths of warm-up, window and cool-down."""
        load = min(rate / self.capacity, 1.0)
        scale = self.lone_s * (1 - load) + self.full_s * load
        steady = max(min(_WINDOW * scale, _ENOUGH_REQUESTS / rate), _LEAST_WINDOW * scale)
        return _WARMUP * scale, max(requests / rate, steady), _COOLDOWN * scale


class SimulatedReplica:
    """One replica of a simulated target.

    Raises:
        ToolError: the model is unknown, or does not fit into the replica's memory.
    """

    def __init__(self, target: Target, config: ProfileConfig):
        from profiler.sim.replica import make_replica

        assert target.accelerator is not None
        self.slos = config.slos
        self.replica = make_replica(target.accelerator, config.model, gpus=target.gpus)
        self._paces: dict[tuple[int, int], _Pace] = {}

    def check(self) -> None:
        """Do nothing: what could be wrong was refused when this was made."""

    def probe(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> Measurement:
        """Simulate load at a rate, or one request at a time for None."""
        import numpy as np

        pace = self._pace(input_tokens, output_tokens)
        sustained = True
        if rate is None or math.isnan(pace.lone_s):
            samples = self._alone(input_tokens, output_tokens)
            window = (0.0, _LONE_REQUESTS * _APART_S)
        else:
            stages = pace.stages_s(rate, wanted_requests(self.slos))
            due = schedule(rate, stages, np.random.default_rng(seed))
            samples = self._simulate(due, input_tokens, np.full(len(due), output_tokens))
            window = (stages[0], stages[0] + stages[1])
            sustained = rate <= _SUSTAINED_SHARE * pace.capacity
        summary = summarise(samples, window=window, slos=self.slos)
        summary = replace(summary, sustained=summary.sustained and sustained)
        outcome = judge(summary, self.slos, alone=rate is None)
        return Measurement(outcome, summary.to_json(), "simulator")

    def _pace(self, input_tokens: int, output_tokens: int) -> _Pace:
        cell = (input_tokens, output_tokens)
        if cell not in self._paces:
            alone = self._alone(*cell)
            lone_s = float((alone.last_token_s - alone.sent_s).max())
            full = (math.nan, math.nan) if math.isnan(lone_s) else self._full(*cell)
            self._paces[cell] = _Pace(lone_s, *full)
        return self._paces[cell]

    def _alone(self, input_tokens: int, output_tokens: int) -> "Samples":
        import numpy as np

        due = np.arange(float(_LONE_REQUESTS)) * _APART_S
        return self._simulate(due, input_tokens, np.full(len(due), output_tokens))

    def _full(self, input_tokens: int, output_tokens: int) -> tuple[float, float]:
        """Return seconds per request in the full replica, and its capacity in requests/s.

        First it is full from the start, by requests that have from one to all output tokens to
        go, so that those that follow don't start and end in step. Then it is overloaded, as a
        rate above that capacity would do it.
        """
        import numpy as np

        from profiler.sim.replica import BLOCK_TOKENS

        stored = self.replica.kv_blocks * BLOCK_TOKENS
        places = min(self.replica.max_num_seqs, stored // (input_tokens + output_tokens // 2))
        places = max(int(places), 1)
        first = 1 + np.arange(places) * output_tokens // places
        rest = np.full(_PER_PLACE * max(places, 10), output_tokens)
        random = np.random.default_rng(0)
        sizes = np.concatenate([random.permutation(first), rest])
        samples = self._simulate(np.zeros(len(sizes)), input_tokens, sizes)
        full = _throughput(samples.last_token_s[places:], _TIMED)
        count = _PER_PLACE_OVERLOADED * max(places, 10)
        due = schedule(_OVERLOAD * full, (count / (_OVERLOAD * full),), random)
        samples = self._simulate(due, input_tokens, np.full(len(due), output_tokens))
        overloaded = _throughput(samples.last_token_s, _TIMED_OVERLOADED)
        return places / full, min(full, overloaded)

    def _simulate(self, due: "Floats", input_tokens: int, output_tokens: "Ints") -> "Samples":
        import numpy as np

        from profiler.sim.run import simulate

        inputs = np.full(len(due), input_tokens, dtype=np.int64)
        return simulate(self.replica, due, inputs, output_tokens.astype(np.int64))


def _throughput(ended_s: "Floats", timed: tuple[float, float]) -> float:
    """Return requests/s between two shares of the requests, in the order in which they end."""
    ended_s.sort()
    start, end = (round(share * len(ended_s)) for share in timed)
    return (end - start) / float(ended_s[end] - ended_s[start])


def schedule(rate: float, stages_s: tuple[float, ...], random: "np.random.Generator") -> "Floats":
    """Return ascending due times, [n] seconds: Poisson arrivals of a fixed count in each stage.

    Given their count, the arrivals of a Poisson process are uniform over the stage.
    """
    import numpy as np

    start, parts = 0.0, []
    for length in stages_s:
        parts.append(start + np.sort(random.random(round(rate * length))) * length)
        start += length
    return np.concatenate(parts)
