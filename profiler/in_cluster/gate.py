"""How the pods of one load agree on the moment it starts: through ConfigMaps of their namespace.

Each pod writes that it is ready. The first waits for all of them and writes when to start, by its
own clock; the others wait for that. So the clock of whoever asked for the load does not matter,
only that the nodes' clocks agree. Where they don't, a part of the schedule is shifted against the
others; no latency is.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api import Api
from cluster.kinds import CONFIG_MAP
from profiler.errors import ShardLostError
from profiler.load.part import Part

_POLL_S = 0.25
# Long enough for every pod to see it at its next poll and to open its connections.
_START_AFTER_S = 3.0


@dataclass(frozen=True)
class Gate:
    """One load's gate.

    Attributes:
        api: the cluster.
        name: of the load; begins the names of its ConfigMaps.
        namespace: of these.
        labels: of these, so that they are removed with the rest of the load.
        owners: of these, so that what is written too late for that goes with its Job.
    """

    api: Api
    name: str
    namespace: str
    labels: dict[str, str]
    owners: Sequence[dict[str, Any]] = ()

    def ready_name(self, index: int) -> str:
        """Return the name of the ConfigMap by which a part says that it is ready."""
        return f"{self.name}-ready-{index + 1}"

    @property
    def start_name(self) -> str:
        """The name of the ConfigMap that says when to start."""
        return f"{self.name}-start"

    def wait(self, part: Part, timeout_s: float, stop: threading.Event) -> float | None:
        """Say that a part is ready and return the Unix time of the start; None when stopped.

        Raises:
            ShardLostError: not all were ready in time; names those that were not.
            ClusterError: the server refuses or stays away.
        """
        deadline = time.monotonic() + timeout_s
        self._write(self.ready_name(part.index), {"part": str(part)})
        if part.index == 0:
            missing = list(range(1, part.count))
            while missing := [index for index in missing if not self._is_ready(index)]:
                if not _go_on(deadline, stop):
                    return self._refuse(missing, part, stop)
            self._write(self.start_name, {"start_unix_s": repr(time.time() + _START_AFTER_S)})
        while (start := self.start_unix_s()) is None:
            if not _go_on(deadline + _START_AFTER_S, stop):
                return self._refuse([0], part, stop)
        return start

    def start_unix_s(self) -> float | None:
        """Return when the load starts or started; None while that is not agreed."""
        found = self.api.find(CONFIG_MAP, self.start_name, self.namespace)
        return None if found is None else float(found["data"]["start_unix_s"])

    def _is_ready(self, index: int) -> bool:
        return self.api.find(CONFIG_MAP, self.ready_name(index), self.namespace) is not None

    def _write(self, name: str, data: dict[str, str]) -> None:
        metadata: dict[str, Any] = {"name": name, "namespace": self.namespace}
        metadata["ownerReferences"] = list(self.owners)
        body = {"apiVersion": CONFIG_MAP.api_version, "kind": CONFIG_MAP.kind, "data": data}
        self.api.apply({**body, "metadata": {**metadata, "labels": self.labels}}, force=True)

    @staticmethod
    def _refuse(missing: list[int], part: Part, stop: threading.Event) -> None:
        if stop.is_set():
            return
        listed = ", ".join(str(Part(index, part.count)) for index in missing)
        raise ShardLostError(
            "load.shard_not_ready",
            f"shard {listed} was not ready in time; the load did not begin",
            hint="see what its pod waits for: no node with room, or no image",
        )


def _go_on(deadline: float, stop: threading.Event) -> bool:
    """Wait a moment; return False when there is no reason to wait longer."""
    return not stop.wait(_POLL_S) and time.monotonic() < deadline


WaitingFor = Callable[[str], None]
"""Told in a few words what a measurement waits for."""
