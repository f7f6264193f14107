"""What sends the loads of a probe: processes of this machine, or what else reaches an engine."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from profiler.load import LoadConfig, LoadRun


class Sender(Protocol):
    """Sends loads to one engine, from wherever it can."""

    @property
    def url(self) -> str:
        """By which whoever sends a load reaches the engine."""

    def check(self, load: "LoadConfig", stop: threading.Event) -> bool:
        """Find out before any load whether it can be sent; raises ToolError.

        Returns whether the engine itself has answered.
        """

    def send(self, load: "LoadConfig", clients: int, *, stop: threading.Event) -> "LoadRun":
        """Send a load from so many clients and return what it measured."""


@dataclass(frozen=True)
class FromHere:
    """Sends loads from processes of this machine to a URL."""

    url: str

    def check(self, load: "LoadConfig", stop: threading.Event) -> bool:
        """Ask the engine for its models."""
        from profiler.load.address import parse_url, tls_context
        from profiler.load.preflight import inspect

        address = parse_url(load.base_url)
        tls = tls_context(load) if address.scheme == "https" else None
        inspect(load, address, tls, stop)
        return True

    def send(self, load: "LoadConfig", clients: int, *, stop: threading.Event) -> "LoadRun":
        """Send a load; raises what ``run_sharded`` does."""
        from profiler.load.shards import run_sharded

        return run_sharded(load, clients, stop=stop)
