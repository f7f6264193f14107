"""Follow the objects of a kind: a list, then what changes, over dropped connections and 410s."""

import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cluster.api import Api, Object, Where
from cluster.errors import ExpiredError
from cluster.refusals import watch_error
from cluster.transport import Deed

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from cluster.kinds import Kind

_TURN_S = 25
"""Seconds of one request, below the read timeout, after which the server ends it."""
_GLANCE_S = 0.2
Change = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True)
class Event:
    """What happened to an object, and the object after it (before it, when it was deleted)."""

    change: Change
    object: Object


def follow(
    api: Api,
    kind: "Kind",
    namespace: Where = None,
    *,
    labels: str = "",
    fields: str = "",
    stop: threading.Event | None = None,
    until_s: float | None = None,
) -> Iterator[Event | None]:
    """Yield every object there is as ADDED, then each change as it comes.

    Each object is yielded in its newest state, though not each state in between: after a break
    that the server does not remember (410), what changed meanwhile comes from a new list. None is
    yielded when there is nothing new for a moment, so that a caller can look at its clock.

    Args:
        api: the cluster.
        kind: of the objects.
        namespace: as in ``Api.list``.
        labels: as in ``Api.list``.
        fields: as in ``Api.list``.
        stop: when set, the iteration ends.
        until_s: ``time.monotonic()`` at which it ends.

    Raises:
        ClusterError: the server refuses, or stays away longer than the connection's patience.
    """
    watcher = _Watcher(api, kind, namespace, labels, fields)
    watcher.start()
    try:
        while not (stop is not None and stop.is_set()):
            if until_s is not None and time.monotonic() >= until_s:
                return
            try:
                item = watcher.events.get(timeout=_GLANCE_S)
            except queue.Empty:
                item = None
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        watcher.end()


class _Watcher(threading.Thread):
    """Reads the stream: a read that waits can't look at a clock or a flag."""

    def __init__(self, api: Api, kind: "Kind", namespace: Where, labels: str, fields: str):
        super().__init__(name=f"watch {kind.plural}", daemon=True)
        self.events: queue.Queue[Event | Exception | None] = queue.Queue()
        self._api, self._kind = api, kind
        self._namespace, self._labels, self._fields = namespace, labels, fields
        self._known: dict[str, tuple[str, Object]] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._response: BaseHTTPResponse | None = None

    def run(self) -> None:
        """Read until the end; the last item is the error that ended it, if one did."""
        version: str | None = None
        try:
            while not self._ended.is_set():
                try:
                    version = self._turn(version or self._list())
                except ExpiredError:
                    version = None
        except Exception as error:  # Whoever waits must learn of it, whatever it is.
            self.events.put(error)

    def end(self) -> None:
        """End the reading and wait for the thread."""
        self._ended.set()
        with self._lock:
            if self._response is not None:
                self._response.shutdown()
        self.join(timeout=5)

    def _list(self) -> str:
        """List all, report what is new, other or gone, and return the version to go on from."""
        before, self._known = self._known, {}
        more: str | None = None
        while True:
            page = self._api.page(
                self._kind, self._namespace, labels=self._labels, fields=self._fields, more=more
            )
            for item in page.items:
                self._put(item, before.pop(item["metadata"]["uid"], None))
            more = page.more
            if more is None:
                break
        for _, gone in before.values():
            self.events.put(Event("DELETED", gone))
        return page.version

    def _put(self, item: Object, before: tuple[str, Object] | None) -> None:
        metadata = item["metadata"]
        self._known[metadata["uid"]] = metadata["resourceVersion"], _head(item)
        if before is None:
            self.events.put(Event("ADDED", item))
        elif before[0] != metadata["resourceVersion"]:
            self.events.put(Event("MODIFIED", item))

    def _turn(self, version: str) -> str:
        """Read one request's events; return the version to go on from."""
        from urllib3.exceptions import HTTPError

        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_TURN_S),
        }
        if self._labels:
            query["labelSelector"] = self._labels
        if self._fields:
            query["fieldSelector"] = self._fields
        within = self._api.within(self._kind, self._namespace)
        deed = Deed("watch", self._kind.resource, within)
        try:
            with self._api.transport.stream(deed, self._kind.path(within), query) as response:
                self._hold(response)
                for line in _lines(response):
                    version = self._take(json.loads(line), deed) or version
        except (HTTPError, OSError, ValueError):
            pass  # Cut off, perhaps inside a line: go on after what was whole.
        finally:
            with self._lock:
                self._response = None
        self._ended.wait(_GLANCE_S)  # Something on the way may end every stream at once.
        return version

    def _hold(self, response: "BaseHTTPResponse") -> None:
        with self._lock:
            self._response = response
            if self._ended.is_set():
                response.shutdown()

    def _take(self, event: dict[str, Any], deed: Deed) -> str | None:
        change, item = event["type"], event["object"]
        if change == "ERROR":
            raise watch_error(deed, item, self._api.host)
        metadata = item["metadata"]
        if change == "DELETED":
            self._known.pop(metadata["uid"], None)
            self.events.put(Event(change, item))
        elif change != "BOOKMARK":
            self._put(item, self._known.get(metadata["uid"]))
        return str(metadata["resourceVersion"])


def _head(item: Object) -> Object:
    """Return what names an object; a whole one for each that is watched would fill the memory."""
    named = ("name", "namespace", "uid", "labels")
    metadata = {name: item["metadata"][name] for name in named if name in item["metadata"]}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata}


def _lines(response: "BaseHTTPResponse") -> Iterator[bytes]:
    """Yield whole lines of a stream as they arrive."""
    rest = b""
    for piece in response.stream(None):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line)
