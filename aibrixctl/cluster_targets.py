"""The targets of ``profile run`` that are in a cluster: found, and reached while it runs."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from accelerators.catalog import load_catalog
from aibrixctl.in_cluster_options import InCluster
from profiler.errors import ProfilerUsageError
from profiler.in_cluster.place import parse_ref
from profiler.in_cluster.targets import Reached, reach, served_model
from profiler.load.config import LoadConfig, LoadRun
from profiler.run_config import ProfileConfig
from profiler.targets import Target


@dataclass(frozen=True)
class ClusterSender:
    """Sends loads to one target; a :class:`profiler.senders.Sender` that says what it waits for."""

    reached: Reached
    name: str
    say: Callable[[str], None]

    @property
    def url(self) -> str:
        """By which whoever sends a load reaches the engine."""
        return self.reached.url

    def check(self, load: LoadConfig, stop: threading.Event) -> bool:
        """Find out before any load whether it can be sent."""
        return self.reached.check(load, stop)

    def send(self, load: LoadConfig, clients: int, *, stop: threading.Event) -> LoadRun:
        """Send a load and return what it measured."""

        def waiting(what: str) -> None:
            self.say(f"{self.name}: waiting for {what}")

        return self.reached.send(load, clients, stop=stop, waiting=waiting)

    def to_json(self) -> dict[str, Any]:
        """Return where it answers, as shown to users."""
        return self.reached.place.to_json() | {"via": self.reached.via}


def _without_repeats(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return what says a line unless it was the last one: every probe waits for its pods."""
    last: list[str] = []

    def tell(text: str) -> None:
        if last != [text]:
            last[:] = [text]
            say(text)

    return tell


def _as_found(target: Target, found: Reached) -> Target:
    """Return a target with what the cluster says of it; --gpus counts where it was given."""
    place = found.place
    return replace(
        target,
        via=found.via,
        notes=found.notes,
        accelerator=load_catalog()[place.accelerator] if place.accelerator else None,
        gpus=target.gpus if target.gpus > 1 else place.gpus or 1,
    )


@contextmanager
def reached(
    config: ProfileConfig, wanted: InCluster, say: Callable[[str], None]
) -> Iterator[tuple[ProfileConfig, Mapping[str, ClusterSender]]]:
    """Reach the targets that are in a cluster; give the configuration, completed, and senders.

    Raises:
        ClusterError: the cluster refuses, or a target is not there.
        ProfilerError: no pod of a target is ready, or they serve different models.
    """
    senders: dict[str, ClusterSender] = {}
    targets, models = [], {}
    with ExitStack() as stack:
        for target in config.targets:
            if target.kind != "k8s":
                targets.append(target)
                continue
            way = reach(wanted.access, parse_ref(target.where), wanted.jobs, wanted.via)
            found = stack.enter_context(way)
            senders[target.name] = ClusterSender(found, target.name, _without_repeats(say))
            targets.append(_as_found(target, found))
            models[target.name] = served_model(found.place, config.model or None)
        if len(set(models.values())) > 1:
            listed = ", ".join(f"{name} {model!r}" for name, model in models.items())
            raise ProfilerUsageError(
                "profile.model",
                f"the targets serve different models: {listed}",
                hint="profile one model at a time, or name theirs with --model",
            )
        model = next(iter(models.values()))
        yield replace(config, model=model, targets=tuple(targets)), senders
