"""Probe a simulated replica in virtual time.

Arrivals are Poisson, with exactly the asked number of them in the warm-up, the window and the
cool-down each, so that the offered rate is the asked one. Each stage is as long as the engine
needs to reach its steady state, in units of the time a lone request takes.
"""

import math
from typing import TYPE_CHECKING

from profiler.probes import Measurement
from profiler.run_config import ProfileConfig
from profiler.samples import summarise
from profiler.targets import Target
from profiler.verdict import judge, wanted_requests

if TYPE_CHECKING:
    import numpy as np

    from profiler.samples import Floats, Samples

_LONE_REQUESTS = 5
_APART_S = 1e6
# In times of a lone request: under load one takes about twice as long, and a queue that grows
# has to show within the window.
_WARMUP = 3.0
_WINDOW = 8.0
_COOLDOWN = 1.0


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
        self._lone_s: dict[tuple[int, int], float] = {}

    def probe(
        self, input_tokens: int, output_tokens: int, rate: float | None, seed: int
    ) -> Measurement:
        """Simulate load at a rate, or one request at a time for None."""
        import numpy as np

        lone_s = self._lone_seconds(input_tokens, output_tokens)
        if rate is None or lone_s is None:
            samples = self._alone(input_tokens, output_tokens)
            window = (0.0, _LONE_REQUESTS * _APART_S)
        else:
            stages = self._stages(rate, lone_s)
            due = schedule(rate, stages, np.random.default_rng(seed))
            samples = self._simulate(due, input_tokens, output_tokens)
            window = (stages[0], stages[0] + stages[1])
        summary = summarise(samples, window=window, slos=self.slos)
        outcome = judge(summary, self.slos, alone=rate is None)
        return Measurement(outcome, summary.to_json(), "simulator")

    def _stages(self, rate: float, lone_s: float) -> tuple[float, float, float]:
        """Return the lengths of warm-up, window and cool-down, in seconds."""
        window_s = max(wanted_requests(self.slos) / rate, _WINDOW * lone_s)
        return _WARMUP * lone_s, window_s, _COOLDOWN * lone_s

    def _lone_seconds(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return how long a lone request takes; None when the replica can't hold it."""
        cell = (input_tokens, output_tokens)
        if cell not in self._lone_s:
            samples = self._alone(*cell)
            self._lone_s[cell] = float((samples.last_token_s - samples.sent_s).max())
        seconds = self._lone_s[cell]
        return None if math.isnan(seconds) else seconds

    def _alone(self, input_tokens: int, output_tokens: int) -> "Samples":
        import numpy as np

        return self._simulate(
            np.arange(float(_LONE_REQUESTS)) * _APART_S, input_tokens, output_tokens
        )

    def _simulate(self, due: "Floats", input_tokens: int, output_tokens: int) -> "Samples":
        import numpy as np

        from profiler.sim.run import simulate

        n = len(due)
        return simulate(
            self.replica,
            due,
            np.full(n, input_tokens, dtype=np.int64),
            np.full(n, output_tokens, dtype=np.int64),
        )


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
