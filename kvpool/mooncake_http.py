"""The HTTP of a Mooncake master: segments, keys, replicas, counters and drain jobs.

Nothing here takes a lease, counts as a lookup or renews what protects an object from eviction:
``/batch_query_keys`` only looks, unlike ``/query_key``. Source: ``master_admin_service.cpp`` of
Mooncake 0.3.13, and answers of a real master.
"""

import http.client
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from kvpool.errors import KvPoolError, PoolUnreachableError
from kvpool.url import PoolUrl

_PIECE_BYTES = 1 << 20
_SPOOL_BYTES = 16 << 20
"""Names of keys that are kept in memory; more of them wait in a temporary file."""
SEPARATOR = ","
"""Between keys of one question; the master splits at it even where it is escaped."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Memory that one client lends to the store.

    Attributes:
        name: the client's host and port, as drains are told it.
        endpoint: where its data is reached, as replicas name it.
        status: ``OK``, ``DRAINING``, ``DRAINED``, ...
        used_bytes, capacity_bytes: None while it is being drained: the master then counts neither.
        client: id of the client that lends it.
    """

    name: str
    endpoint: str
    protocol: str
    status: str
    used_bytes: int | None
    capacity_bytes: int | None
    client: str = ""

    @property
    def free_bytes(self) -> int:
        """Return how much more it takes; nothing unless it is in service."""
        if self.status != "OK" or self.capacity_bytes is None:
            return 0
        return max(0, self.capacity_bytes - (self.used_bytes or 0))


@dataclass(frozen=True, slots=True)
class Replicas:
    """Where an object lives.

    Attributes:
        bytes: of one copy; None where no copy is complete.
        endpoints: of the segments whose memory holds one.
        on_disk: copies on shared disks and NVMe-oF.
        local_disks: ids of the clients on whose own disk there is one.
        error: why the master names none, e.g. ``OBJECT_NOT_FOUND``.
    """

    bytes: int | None
    endpoints: tuple[str, ...] = ()
    on_disk: int = 0
    local_disks: tuple[str, ...] = ()
    error: str = ""


class Master:
    """A connection to the master's HTTP, which is kept open between questions."""

    def __init__(self, url: PoolUrl, timeout_s: float):
        """Connect.

        Raises:
            PoolUnreachableError: nothing answers there, something else, or a standby.
        """
        self._url = url
        self._timeout_s = timeout_s
        self._connection = self._new_connection()
        try:
            self.health = self._check_health()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def own_address(self) -> str:
        """Return this machine's address on the way to the master."""
        if self._connection.sock is None:
            self._connection.connect()
        return str(self._connection.sock.getsockname()[0])

    def segments(self) -> list[Segment]:
        """Return every segment, by name."""
        found = self._json("GET", "/get_segments_detail")
        return sorted(map(_segment, found["segments"]), key=lambda segment: segment.name)

    def counters(self) -> dict[str, float]:
        """Return the master's counters that carry no labels."""
        lines = self._ask("GET", "/metrics").decode().splitlines()
        words = (line.split() for line in lines if line and line[0] != "#" and "{" not in line)
        return {word[0]: float(word[1]) for word in words if len(word) == 2}

    def keys(self) -> Iterator[str]:
        """Yield the keys that are there now.

        The master answers with all of them at once. They are fetched without delay, so that it
        need not keep them, and wait in a temporary file if there are many.
        """
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            connection = self._new_connection()
            try:
                response = self._send(connection, "GET", "/get_all_keys")
                self._expect_ok(response)
                while piece := response.read(_PIECE_BYTES):
                    spool.write(piece)
            except (OSError, http.client.HTTPException) as error:
                raise self._gone(error) from error
            finally:
                connection.close()
            spool.seek(0)
            for line in spool:
                if line != b"\n":
                    yield line.removesuffix(b"\n").decode("utf-8", "surrogateescape")

    def replicas(self, keys: Sequence[str]) -> dict[str, Replicas]:
        """Return where objects live; a key that can't be asked for is missing from the answer."""
        askable = [key for key in keys if key and SEPARATOR not in key]
        if not askable:
            return {}
        # What need not be escaped is not: older masters take it literally.
        text = SEPARATOR.join(
            quote(key.encode("utf-8", "surrogateescape"), safe="/@:") for key in askable
        )
        answer = self._json("GET", f"/batch_query_keys?keys={text}")
        return {key: _replicas(found) for key, found in answer["data"].items()}

    def start_drain(self, segments: Sequence[str], targets: Sequence[str], concurrency: int) -> str:
        """Start a drain job; return its id.

        Args:
            segments: to empty.
            targets: where to; empty for every other one.
            concurrency: objects on their way at a time.

        Raises:
            KvPoolError: the master refuses; ``code`` ends with its own word for the reason.
        """
        body = {
            "segments": list(segments),
            "target_segments": list(targets),
            "max_concurrency": concurrency,
        }
        return str(self._json("POST", "/api/v1/drain_jobs", json.dumps(body))["job_id"])

    def drain(self, job: str) -> Mapping[str, Any]:
        """Return the state of a drain job, as the master has it."""
        found: Mapping[str, Any] = self._json("GET", f"/api/v1/drain_jobs/query?{_job(job)}")
        return found

    def cancel_drain(self, job: str) -> None:
        """Cancel a drain job. Raises KvPoolError while it moves, or when it has ended."""
        self._json("POST", f"/api/v1/drain_jobs/cancel?{_job(job)}")

    def _check_health(self) -> Mapping[str, Any]:
        found = self._json("GET", "/health")
        if not isinstance(found, dict) or "role" not in found:
            raise self._gone(ValueError("what answers is no Mooncake master of 0.3.10 or later"))
        if not found.get("service_ready", True):
            leader = found.get("leader_address")
            raise PoolUnreachableError(
                "kv.mooncake.standby",
                f"the Mooncake master at {self._url.place} does not serve: it is "
                f"{found['role']}, {found.get('ha_state', 'state unknown')}",
                hint=f"ask the leader, {leader}" if leader else "ask the leader of the cluster",
                target=str(self._url),
            )
        return found

    def _json(self, method: str, path: str, body: str | None = None) -> Any:
        answer = self._ask(method, path, body)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise self._gone(ValueError("its answer is no JSON")) from error

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        try:
            response = self._send(self._connection, method, path, body)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            # The master may have closed a connection that lay idle. Jobs are not started twice.
            self._connection.close()
            if method != "GET":
                raise self._gone(error) from error
            try:
                response = self._send(self._connection, method, path, body)
            except (OSError, http.client.HTTPException) as again:
                raise self._gone(again) from again
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._gone(error) from error
        try:
            self._expect_ok(response)
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._gone(error) from error

    def _new_connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._url.host, self._url.port, timeout=self._timeout_s)

    @staticmethod
    def _send(
        connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None
    ) -> http.client.HTTPResponse:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse()

    def _expect_ok(self, response: http.client.HTTPResponse) -> None:
        if response.status != http.HTTPStatus.OK:
            self._refuse(response.status, response.read())

    def _refuse(self, status: int, body: bytes) -> NoReturn:
        """Raise what an answer other than 200 means."""
        try:
            answer = json.loads(body)
            reason = str(answer.get("error_message") or answer["error"])
        except (ValueError, KeyError, AttributeError, TypeError):
            reason = body[:100].decode("utf-8", "replace") or http.HTTPStatus(status).phrase
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            raise self._gone(ConnectionError(reason))
        raise KvPoolError(
            f"kv.mooncake.{reason.lower()}" if reason.isupper() else "kv.mooncake.refused",
            f"the Mooncake master at {self._url.place} refuses: {reason} (HTTP {status})",
            target=str(self._url),
        )

    def _gone(self, error: Exception) -> PoolUnreachableError:
        return PoolUnreachableError(
            "kv.mooncake.unreachable",
            f"no Mooncake master answers at {self._url.place}: "
            f"{getattr(error, 'strerror', None) or error}",
            hint="the port is that of its HTTP (-metrics_port, 9003 unless told otherwise), not "
            "that of its RPC",
            target=str(self._url),
        )


def _job(job: str) -> str:
    return urlencode({"job_id": job})


def _segment(item: Mapping[str, Any]) -> Segment:
    status = str(item["status"])
    counted = status == "OK"
    return Segment(
        name=str(item["segment_name"]),
        endpoint=str(item["te_endpoint"]),
        protocol=str(item["protocol"]),
        status=status,
        used_bytes=int(item["allocator_used_bytes"]) if counted else None,
        capacity_bytes=int(item["size_bytes"]),
        client=str(item.get("client_id", "")),
    )


def _replicas(found: Mapping[str, Any]) -> Replicas:
    in_memory, shared, local = (
        [copy for kind in kinds for copy in found.get(kind) or []]
        for kinds in (("values",), ("disk_values", "nof_values"), ("local_disk_values",))
    )
    sizes = [
        int(copy[name])
        for copy in (*in_memory, *shared, *local)
        for name in ("size_", "object_size")
        if name in copy
    ]
    return Replicas(
        bytes=sizes[0] if sizes else None,
        endpoints=tuple(str(copy["transport_endpoint_"]) for copy in in_memory),
        on_disk=len(shared),
        local_disks=tuple(str(copy.get("client_id", "")) for copy in local),
        error="" if found["ok"] else str(found["error"]),
    )
