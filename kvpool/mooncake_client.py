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
_BUFFER_BYTES = 64 << 20
"""Through which values pass; none larger can be read."""
_NOT_FOUND, _LEASED = -704, -706


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
        self._store = _load().MooncakeDistributedStore()
        self._probe_rpc(timeout_s)
        with _silence():
            status = self._store.setup(
                own_address,
                url.options["metadata"],
                0,
                _BUFFER_BYTES,
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
        """Return a value, which takes a lease on it; None where there is none."""
        data: bytes = self._store.get(key)
        return data or None

    def put(self, key: str, data: bytes) -> None:
        """Store a value in place of any that is there.

        Raises:
            KvPoolError: the store refuses.
        """
        # put() of a key that is there reports success and changes nothing.
        status = self._store.upsert(key, data)
        if status != 0:
            full = "; no segment has room for it" if status in (-200, -10) else ""
            raise KvPoolError(
                "kv.mooncake.write",
                f"the store did not take {key!r}, {len(data)} bytes ({status}){full}",
                target=str(self._url),
            )

    def remove(self, keys: Sequence[str]) -> tuple[int, list[str]]:
        """Remove objects, unless a reader's lease protects them.

        Returns:
            how many are gone, and the keys that a lease protects.

        Raises:
            KvPoolError: the store refuses for another reason.
        """
        statuses: list[int] = self._store.batch_remove(list(keys), False)
        leased = []
        for key, status in zip(keys, statuses, strict=True):
            if status == _LEASED:
                leased.append(key)
            elif status not in (0, _NOT_FOUND):
                raise KvPoolError(
                    "kv.mooncake.delete",
                    f"the store did not remove {key!r} ({status})",
                    target=str(self._url),
                )
        return statuses.count(0), leased


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
            hint="apt install libibverbs1 librdmacm1 libnuma1 liburing2" if missing else EXTRA,
        ) from error
    return store
