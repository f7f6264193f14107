"""Reach one target of a cluster: from Jobs beside it, or through a port-forward."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from cluster.access import Access, connect
from cluster.labels import MODEL
from cluster.transport import Limits
from profiler.errors import ProfilerUsageError
from profiler.in_cluster.gate import WaitingFor
from profiler.in_cluster.jobs import JobOptions, LoadJobs
from profiler.in_cluster.place import Place, Ref, locate
from profiler.load.config import LoadConfig, LoadRun, Progress
from profiler.load.shards import run_sharded
from profiler.senders import FromHere

Via = Literal["job", "port-forward"]
# A load goes on while the API server restarts; its result is worth the wait.
_LIMITS = Limits(retry_s=120.0)
FORWARD_NOTE = "measured through a port-forward: its latency is in the figures"


@dataclass(frozen=True)
class Reached:
    """A target that can be measured.

    Attributes:
        place: where it answers in the cluster.
        url: by which whoever sends the load reaches it.
        via: how.
        jobs: what sends the load; None through a port-forward.
    """

    place: Place
    url: str
    via: Via
    jobs: LoadJobs | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know of the way they were measured."""
        return (*([FORWARD_NOTE] if self.via == "port-forward" else []), *self.place.notes)

    def check(self, load: LoadConfig, stop: threading.Event) -> bool:
        """Find out before any load whether it can be sent; raises ToolError.

        Returns whether the engine itself has answered, which it does to no one but the Jobs.
        """
        if self.jobs is None:
            return FromHere(self.url).check(load, stop)
        self.jobs.check(load)
        return False

    def send(
        self,
        load: LoadConfig,
        clients: int,
        *,
        stop: threading.Event | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        waiting: WaitingFor = lambda _: None,
    ) -> LoadRun:
        """Send a load and return what it measured, with the notes.

        Raises:
            InterruptedProbeError: as ``LoadJobs.run``.
            ToolError: as ``run_sharded`` or ``LoadJobs.run``.
        """
        if self.jobs is None:
            run = run_sharded(load, clients, stop=stop, on_progress=on_progress)
        else:
            run = self.jobs.run(load, clients, stop=stop, waiting=waiting)
        notes = (*self.notes, *run.summary.notes)
        return replace(run, summary=replace(run.summary, notes=notes))


@contextmanager
def reach(access: Access, ref: Ref, options: JobOptions, via: Via) -> Iterator[Reached]:
    """Reach a target for the block.

    Raises:
        ClusterError: the cluster refuses, or the target is not there.
        ProfilerError: no pod of it is ready, or its labels leave open where to ask.
    """
    with connect(access, _LIMITS) as api:
        place = locate(api, ref)
        if via == "job":
            jobs = LoadJobs(api, place.namespace, options)
            yield Reached(place, place.url, via, jobs)
            return
        from cluster.forward import forwarded

        with forwarded(access, place.namespace, place.forward, place.port) as port:
            yield Reached(place, f"http://127.0.0.1:{port}", via, None)


def served_model(place: Place, given: str | None) -> str:
    """Return the model to ask for: as given, else as the label says.

    Raises:
        ProfilerUsageError: neither says.
    """
    model = given or place.model
    if model is None:
        raise ProfilerUsageError(
            "k8s.model",
            f"{place.forward} in {place.namespace} has no label {MODEL}",
            hint="give --model",
            target=place.forward,
        )
    return model
