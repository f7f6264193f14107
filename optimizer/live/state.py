"""The loop's memory on disk: document ``aibrixctl/serve-state/v1``, written whole or not at all."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerators import documents
from optimizer.errors import OptimizerUsageError
from optimizer.live.control import State

SCHEMA = "aibrixctl/serve-state/v1"


@dataclass(frozen=True)
class Memory:
    """What outlives a restart, of one model.

    Attributes:
        state: of the control loop.
        deployments: ``namespace/name`` to the target of its table.
        overrides: metric values set by hand, by ``namespace/deployment``.
        stopped: deployments that are not to be planned for.
    """

    state: State = field(default_factory=State)
    deployments: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, int] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "state": self.state.to_json(),
            "deployments": self.deployments,
            "overrides": self.overrides,
            "stopped": sorted(self.stopped),
        }


def parse_state(body: Mapping[str, Any]) -> State:
    """Return the state of a JSON form; raises KeyError, TypeError or ValueError."""
    replicas, planned_s = body["replicas"], body["planned_s"]
    return State(
        replicas=None if replicas is None else _counts(replicas),
        changed_s=float(body["changed_s"]),
        planned_s=None if planned_s is None else float(planned_s),
        proposals=tuple((float(t), _counts(counts)) for t, counts in body["proposals"]),
        changes_s=tuple(float(t) for t in body["changes_s"]),
        problem=None if body["problem"] is None else str(body["problem"]),
    )


def _counts(value: Mapping[str, Any]) -> dict[str, int]:
    counts = {str(name): int(n) for name, n in value.items()}
    if any(n < 0 for n in counts.values()):
        raise ValueError(f"replicas below 0: {counts}")
    return counts


def save(memories: Mapping[str, Memory], path: str | os.PathLike[str]) -> None:
    """Write the memory of every model."""
    models = {model: memory.to_json() for model, memory in memories.items()}
    documents.write_json(path, {"schema": SCHEMA, "models": models})


def load(path: str | os.PathLike[str]) -> dict[str, Memory]:
    """Return the memory of every model; none where there is no file yet.

    Raises:
        UsageError: unreadable, another document or another version.
        OptimizerUsageError: a field is missing or malformed.
    """
    if not Path(path).exists():
        return {}
    body = documents.check_schema(documents.read_json(path), "serve-state", 1, str(path))
    try:
        return {
            str(model): Memory(
                parse_state(memory["state"]),
                {str(key): str(target) for key, target in memory["deployments"].items()},
                {str(name): int(n) for name, n in memory["overrides"].items()},
                frozenset(map(str, memory["stopped"])),
            )
            for model, memory in body["models"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptimizerUsageError(
            "serve.state",
            f"{path} {documents.fault(error)}",
            hint="move the file away to begin anew",
            target=str(path),
        ) from error
