"""Values of a Mooncake store, through Mooncake's own client.

The client is a native library that logs to stderr, opens ports of its own and moves data straight
between this machine and those that lend memory. It lends none itself.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from kvpool.errors import KvPoolError, PoolUnreachableError
from kvpool.url import PoolUrl

EXTRA = "pip install 'aibrixctl[mooncake]'"
SYSTEM_PACKAGES = "libibverbs1 librdmacm1 libnuma1 liburing2 libcurl4"
"""Of Debian, which the package's libraries are linked with."""
_BUFFER_BYTES = 64 << 20
"""Through which values pass; a larger value takes a larger one."""
_NOT_FOUND, _LEASED, _NO_ANSWER = -704, -706, -900


def is_installed() -> bool:
    """Tell whether the package is there, without loading it."""
    return find_spec("mooncake") is not None


class Client:
    """A connected client."""

    def __init__(self, url: PoolUrl, own_address: str, timeout_s: float):
        """Connect to the master's RPC.

        Args:
            url: of the pool; its options name the RPC port and the metadata server.
            own_address: under which others reach this machine.
            timeout_s: for finding out whether the RPC answers.

        Raises:
            KvPoolError: the package is missing, or its native libraries.
            PoolUnreachableError: the client can't connect.
        """
        self._url = url
        self._own_address = own_address
        self._make = _load().MooncakeDistributedStore
        self._probe_rpc(timeout_s)
        self._connect(_BUFFER_BYTES)

    def _connect(self, buffer_bytes: int) -> None:
        url = self._url
        self._buffer_bytes = buffer_bytes
        self._store = self._make()
        with _silence():
            status = self._store.setup(
                self._own_address,
                url.options["metadata"],
                0,
                buffer_bytes,
                url.options["protocol"],
                "",
                f"{url.host}:{url.options['rpc']}",
            )
        if status != 0:
            raise self._refused(f"error {status}")

    def _probe_rpc(self, timeout_s: float) -> None:
        """Find out at once what the client would find out after 90 seconds."""
        try:
            port = int(self._url.options["rpc"])
            socket.create_connection((self._url.host, port), timeout_s).close()
        except (OSError, ValueError, OverflowError) as error:
            raise self._refused(str(getattr(error, "strerror", None) or error)) from error

    def _refused(self, reason: str) -> PoolUnreachableError:
        url = self._url
        return PoolUnreachableError(
            "kv.mooncake.client",
            f"Mooncake's client can't connect to the master's RPC at {url.host}:"
            f"{url.options['rpc']}: {reason}",
            hint=f"mooncake://{url.place}?rpc=PORT&metadata=URL&protocol=tcp name what the "
            "store's clients are set up with",
            target=str(url),
        )

    def close(self) -> None:
        """Disconnect."""
        self._store.close()

    def get(self, key: str) -> bytes | None:
        """Return a value, which takes a lease on it; None where there is none.

        Raises:
            KvPoolError: it is there and can't be read.
            PoolUnreachableError: the master no longer answers.
        """
        size = self._size(key)
        if size is None:
            return None
        self._make_room(size)
        with _silence():
            data: bytes = self._store.get(key)
        if not data and self._size(key) is not None:
            what = f"the store names {size:,} bytes of {key!r} and does not deliver them"
            raise KvPoolError(
                "kv.mooncake.read",
                what,
                hint="their client may be gone, or they outlast a lease (-default_kv_lease_ttl)",
                target=str(self._url),
            )
        return data or None

    def put(self, key: str, data: bytes) -> None:
        """Store a value in place of any that is there.

        Raises:
            KvPoolError: the store refuses.
            PoolUnreachableError: the master no longer answers.
        """
        self._make_room(len(data))
        # put() of a key that is there reports success and changes nothing.
        with _silence():
            status = self._store.upsert(key, data)
        if status != 0:
            full = "; no segment has room for it" if status in (-200, -10) else ""
            what = f"the store did not take {key!r}, {len(data)} bytes ({status}){full}"
            raise self._failed("kv.mooncake.write", what, status)

    def remove(self, keys: Sequence[str]) -> tuple[int, list[str]]:
        """Remove objects, unless a reader's lease protects them.

        Returns:
            how many are gone, and the keys that a lease protects.

        Raises:
            KvPoolError: the store refuses for another reason.
            PoolUnreachableError: the master no longer answers.
        """
        with _silence():
            statuses: list[int] = self._store.batch_remove(list(keys), False)
        leased = []
        for key, status in zip(keys, statuses, strict=True):
            if status == _LEASED:
                leased.append(key)
            elif status not in (0, _NOT_FOUND):
                what = f"the store did not remove {key!r} ({status})"
                raise self._failed("kv.mooncake.delete", what, status)
        return statuses.count(0), leased

    def _size(self, key: str) -> int | None:
        with _silence():
            size = int(self._store.get_size(key))
        if size >= 0:
            return size
        if size == _NOT_FOUND:
            return None
        what = f"the store does not tell the size of {key!r} ({size})"
        raise self._failed("kv.mooncake.read", what, size)

    def _make_room(self, size: int) -> None:
        """Connect anew, through a buffer in which a value has room."""
        if size > self._buffer_bytes:
            self._store.close()
            self._connect(size + size // 8)

    def _failed(self, code: str, what: str, status: int) -> KvPoolError:
        kind = PoolUnreachableError if status == _NO_ANSWER else KvPoolError
        if status == _NO_ANSWER:
            what = f"the master's RPC no longer answers: {what}"
        return kind(code, what, target=str(self._url))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the library from writing to stderr.

    It reports an error and a warning while it connects well; its log level is read too late, or
    can't be set higher. What really fails is told by its return codes.
    """
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _load() -> Any:
    os.environ.setdefault("MC_LOG_LEVEL", "ERROR")
    try:
        from mooncake import store
    except ImportError as error:
        missing = "cannot open shared object" in str(error)
        raise KvPoolError(
            "kv.mooncake.package",
            f"Mooncake's client can't be loaded: {error}"
            if missing
            else "values of a Mooncake store take its client, which is not installed",
            hint=f"apt install {SYSTEM_PACKAGES}" if missing else EXTRA,
        ) from error
    return store
