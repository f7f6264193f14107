"""Reach a port in the cluster from outside: a ``kubectl port-forward`` for as long as it is needed.

What passes through it takes a detour over the API server and a kubelet.
"""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.access import Access
from cluster.errors import ClusterUnreachableError, ClusterUsageError

_READY = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_WITHIN_S = 20.0


@contextmanager
def forwarded(access: Access, namespace: str, what: str, port: int) -> Iterator[int]:
    """Give a port of 127.0.0.1 that leads to a port of a pod or Service, for the block.

    Args:
        access: the cluster.
        namespace: of the object.
        what: such as ``service/foo`` or ``pod/foo-1``.
        port: of the object.

    Raises:
        ClusterUsageError: there is no ``kubectl``.
        ClusterUnreachableError: it does not get there; gives its words.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise ClusterUsageError(
            "cluster.kubectl",
            "a port-forward needs kubectl, and there is none on PATH",
            hint="install it, or run inside the cluster",
        )
    words = [program, *access.with_namespace(namespace).options()]
    process = subprocess.Popen(
        [*words, "port-forward", "--address", "127.0.0.1", what, f":{port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield _Reader(process).local_port(f"{what} in {namespace}")
    finally:
        process.kill()
        process.wait()


class _Reader(threading.Thread):
    """Reads what kubectl says to its end, so that it never waits for a reader."""

    def __init__(self, process: "subprocess.Popen[str]"):
        super().__init__(name="port-forward", daemon=True)
        self._process = process
        self._said: list[str] = []
        self._port: int | None = None
        self._known = threading.Event()
        self.start()

    def run(self) -> None:
        """Read until kubectl ends."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                found = _READY.search(line)
                if found and self._port is None:
                    self._port = int(found[1])
                    self._known.set()
                elif self._port is None:
                    self._said.append(line.strip())
        self._known.set()

    def local_port(self, what: str) -> int:
        """Return the port once kubectl listens there."""
        in_time = self._known.wait(_WITHIN_S)
        if self._port is None:
            said = "; ".join(self._said) or "it said nothing"
            why = said if in_time else f"it was not ready within {_WITHIN_S:g} s ({said})"
            raise ClusterUnreachableError(
                "cluster.forward",
                f"kubectl port-forward to {what} failed: {why}",
                hint="it needs the verb create on pods/portforward, and a pod that runs",
                target=what,
            )
        return self._port
