"""The part that one of several clients takes in a load."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from profiler.load.config import LoadConfig
from profiler.load.schedule import due_times
from profiler.samples import Floats


@dataclass(frozen=True)
class Part:
    """Requests ``index``, ``index + count``, … of a load that ``count`` clients send together.

    The parts of a load hold its schedule and its prompts, each request once: the server gets what
    one client would have sent. A request's prompt depends on its place in the whole, so no two
    clients send the same.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index + 1} of {self.count}"

    def indices(self) -> Iterator[int]:
        """Yield the places of this part's requests in the whole load."""
        return itertools.count(self.index, self.count)

    def due(self, config: LoadConfig) -> Floats | None:
        """Return when this part's requests are due, seconds; None in a closed loop."""
        if config.request_rate is None:
            return None
        return due_times(config)[self.index :: self.count]

    def of(self, config: LoadConfig) -> LoadConfig:
        """Return the configuration with this part's share of what is counted."""
        cap, prompts = config.max_concurrency, config.num_prompts
        closed = config.request_rate is None
        return replace(
            config,
            max_concurrency=self._share(cap),
            num_prompts=self._share(prompts) if closed else prompts,
        )

    def _share(self, whole: int | None) -> int | None:
        return None if whole is None else len(range(self.index, whole, self.count))


WHOLE = Part()
"""The part of a client that is alone."""


def parts(config: LoadConfig, clients: int) -> tuple[Part, ...]:
    """Return the parts of a load for at most so many clients: none of them is empty."""
    limits = [clients]
    if config.max_concurrency is not None:
        limits.append(config.max_concurrency)
    if config.request_rate is not None:
        limits.append(len(due_times(config)))
    elif config.num_prompts is not None:
        limits.append(config.num_prompts)
    count = max(min(limits), 1)
    return tuple(Part(index, count) for index in range(count))
