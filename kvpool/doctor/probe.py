"""Whether the nodes of a pool answer at their address."""

import errno
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kvpool.entry import Node

_MOST_AT_ONCE = 16
_NOT_FROM_HERE = (
    errno.ETIMEDOUT,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
    errno.EPERM,
)


@dataclass(frozen=True)
class Probe:
    """One attempt to connect.

    Attributes:
        node: which.
        error: why it failed; empty where it did not.
        refused: the address was reached, and nothing listens there.
    """

    node: Node
    error: str = ""
    refused: bool = False


def probe_nodes(nodes: Sequence[Node], timeout_s: float) -> tuple[Probe, ...]:
    """Connect to every node over TCP, some at once, and hang up.

    Args:
        nodes: with their addresses.
        timeout_s: for each.
    """
    if not nodes:
        return ()
    with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(nodes)), "probe") as threads:
        return tuple(threads.map(lambda node: _probe(node, timeout_s), nodes))


def blind_reason(probes: Sequence[Probe]) -> str:
    """Return why nothing can be told; empty where something can.

    Where not one node answers or refuses, this machine most likely has no way into the pods'
    network, which says nothing of the nodes.
    """
    if not probes or any(not probe.error or probe.refused for probe in probes):
        return ""
    return f"no node can be reached from here ({probes[0].error}); run it inside the cluster"


def _probe(node: Node, timeout_s: float) -> Probe:
    host, _, port = node.address.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        return Probe(node, f"{port!r} is no port", refused=True)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
    except TimeoutError:
        return Probe(node, f"no answer within {timeout_s:g} s")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        is_far = isinstance(error, socket.gaierror) or getattr(error, "errno", 0) in _NOT_FROM_HERE
        return Probe(node, reason, refused=not is_far)
    return Probe(node)
