"""How many nodes may be out of service at once, and which of the sick ones go."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from diagnose.errors import DiagnoseUsageError
from diagnose.nodes.node import Node

_LIMIT = re.compile(r"^(\d+)(%?)$")


@dataclass(frozen=True)
class Limit:
    """Most nodes that may be out of service: a number, or a share of all.

    Attributes:
        nodes: at least so many.
        percent: or this share, rounded down, where it is more.
    """

    nodes: int = 1
    percent: int = 10

    def of(self, total: int) -> int:
        """Return the number for a pool of so many nodes."""
        return max(self.nodes, math.floor(total * self.percent / 100))


def parse_limit(text: str) -> Limit:
    """Return the limit that a text such as ``2`` or ``25%`` means.

    A share is at least one node, unless it is 0%.

    Raises:
        DiagnoseUsageError: it is neither.
    """
    match = _LIMIT.match(text.strip())
    if match is None or (match[2] and int(match[1]) > 100):
        raise DiagnoseUsageError(
            "option.max_unavailable",
            f"--max-unavailable is {text!r}; expected a number of nodes or a share such as 10%",
        )
    number = int(match[1])
    return Limit(min(number, 1), number) if match[2] else Limit(number, 0)


@dataclass(frozen=True)
class Choice:
    """Which sick nodes go out of service.

    Attributes:
        out: those that go now.
        already: those that take no new work anyway, so that taking them out costs nothing.
        left: those that stay in service, because the limit is reached.
    """

    out: tuple[str, ...]
    already: tuple[str, ...]
    left: tuple[str, ...]


def choose(sick: Sequence[str], pool: Sequence[Node], limit: Limit) -> Choice:
    """Return which of the sick nodes go, the first ones first.

    Nodes that are unavailable for whatever reason count: cordoned, not ready, tainted.

    Args:
        sick: names, worst first.
        pool: every node with accelerators.
        limit: most nodes that may be unavailable.
    """
    available = {node.name for node in pool if node.available}
    known = {node.name for node in pool}
    budget = max(0, limit.of(len(pool)) - (len(pool) - len(available)))
    candidates = [name for name in sick if name in available]
    return Choice(
        out=tuple(candidates[:budget]),
        already=tuple(name for name in sick if name in known - available),
        left=tuple(candidates[budget:]),
    )
